from __future__ import annotations

import os
import subprocess
import sys
import threading
from types import ModuleType

import pytest

from support.processes.hub import environment
from tidings.drivers import load_driver
from tidings.errors import BadConfig, MissingExtra

# All threads use something for the first time at the same moment. Each import of a module takes longer, so that the
# threads meet in the middle of it.
FIRST_USE = """
import importlib, importlib.abc, sys, threading, time
class Slow(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        time.sleep(0.002)
        return None
sys.meta_path.insert(0, Slow())
sys.setswitchinterval(1e-5)
import tidings
from tidings.errors import Unavailable
barrier, failures = threading.Barrier(8), []
def use(number):
    {use}
def run(number):
    barrier.wait()
    try:
        use(number)
    except BaseException as error:
        failures.append(f"{{type(error).__name__}}: {{error}}")
threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(failures)
"""
# No server listens there, so that each publish is Unavailable: the import of the driver is what matters.
EMIT = """
    emitter = tidings.Emitter("{url}", timeout_s=0.1)
    try: emitter.emit("e", 1, channel="orders:1")
    except Unavailable: pass
"""
ASYNC_EMIT = """
    import asyncio
    async def emit():
        try: await shared.emit("e", 1, channel="orders:1")
        except Unavailable: pass
    asyncio.run(emit())
"""
USES = {
    **{
        url: EMIT.format(url=url)
        for url in (
            *("amqp://127.0.0.1:1", "kombu+redis://127.0.0.1:1", "redis://127.0.0.1:1", "http://127.0.0.1:1"),
            *("redis+sentinel://127.0.0.1:1/main", "redis+cluster://127.0.0.1:1", "socketio+redis://127.0.0.1:1"),
            "memory://first-use",
        )
    },
    "an application that imports kombu itself": """
    if number % 2:
        import kombu
        # kombu replaces its module at the end of its import. Python gives the old one to a thread that waited for it.
        while not hasattr(kombu, "Connection"): import kombu
        kombu.Connection("amqp://127.0.0.1:1").transport
    else:
        tidings.Emitter("amqp://127.0.0.1:1")
""",
    "an application that imports parts of redis-py itself": """
    if number % 2:
        # Python may refuse this one, because it waits for what waits for it. That must not concern the emitters.
        try: importlib.import_module(("redis.commands", "redis.client")[number // 2 % 2])
        except (ImportError, KeyError, RuntimeError): pass
    else:
        tidings.Emitter("redis://127.0.0.1:1")
""",
    "one AsyncEmitter in several loops": ASYNC_EMIT,
    "issue": '    tidings.issue("7", key="s" * 32)\n',
    "a private key": """
    from tidings.errors import BadConfig
    from tidings.tokens.signing_keys import Key
    try: Key("EdDSA", "-----BEGIN PRIVATE KEY-----")
    except BadConfig as error: assert "PEM" in str(error), error
""",
}


@pytest.mark.parametrize("use", USES)
def test_first_use_in_several_threads_at_once(use: str) -> None:
    program = FIRST_USE.format(use=USES[use].strip("\n").lstrip())
    if use == "one AsyncEmitter in several loops":
        program = program.replace(
            "barrier, failures",
            'shared = tidings.AsyncEmitter("redis://127.0.0.1:1", timeout_s=0.1)\nbarrier, failures',
        )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=True, env=environment()
    )
    assert result.stdout.strip() == "[]"


# A fork while another thread imports leaves the module's lock held in the child: CPython has one lock per module, and
# no thread to release it. So an emitter that exists before the fork has imported everything.
NOTHING_LEFT = """
import asyncio, sys, tidings
from tidings.errors import TidingsError
emitter = tidings.{emitter}("{url}", timeout_s=0.1)
loop = asyncio.new_event_loop()
before = set(sys.modules)
try:
    sent = emitter.emit("e", 1, channel="orders:1")
    if asyncio.iscoroutine(sent):
        loop.run_until_complete(sent)
except TidingsError:
    pass
print(sorted(set(sys.modules) - before))
"""


@pytest.mark.parametrize("emitter", ["Emitter", "AsyncEmitter"])
@pytest.mark.parametrize(
    "url",
    [
        *("redis://127.0.0.1:1", "rediss://127.0.0.1:1", "unix:///tmp/no-redis", "redis+sentinel://127.0.0.1:1/main"),
        *("redis+cluster://127.0.0.1:1", "socketio+redis://127.0.0.1:1", "http://127.0.0.1:1", "https://127.0.0.1:1"),
        *("amqp://127.0.0.1:1", "kombu+redis://127.0.0.1:1", "memory://first-use"),
    ],
)
def test_first_publish_imports_nothing(emitter: str, url: str) -> None:
    program = NOTHING_LEFT.format(emitter=emitter, url=url)
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True, env=environment()
    )
    assert result.stdout.strip() == "[]"


# The parent forks while another thread makes the first emitter.
FORKS = """
import importlib.abc, os, sys, threading, time
import tidings
begun = threading.Event()
class Slow(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        begun.set()
        time.sleep(0.002)
        return None
sys.meta_path.insert(0, Slow())
def make():
    tidings.Emitter("{url}")
thread = threading.Thread(target=make)
thread.start()
begun.wait()
child = os.fork()
make()
if child == 0:
    os._exit(0)
thread.join()
for _ in range(600):
    ended, status = os.waitpid(child, os.WNOHANG)
    if ended:
        sys.exit(status)
    time.sleep(0.05)
os.kill(child, 9)
sys.exit("the child hangs")
"""


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1", "amqp://127.0.0.1:1", "http://127.0.0.1:1", "memory://forks"])
def test_process_that_forks_during_the_first_use_has_a_child_that_works(url: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", FORKS.format(url=url)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment(),
    )
    assert (result.returncode, result.stderr) == (0, "")


# A thread outlives the main one, and is the first to publish.
LATE = """
import asyncio, threading
import tidings
from tidings.errors import Unavailable
def publish():
    main.join()
    try:
        tidings.Emitter("{url}", timeout_s=0.1).emit("e", 1, channel="orders:1")
    except Unavailable:
        print("unavailable")
    tidings.AsyncEmitter("{url}")
main = threading.main_thread()
threading.Thread(target=publish).start()
"""


@pytest.mark.parametrize(
    "url", ["redis://127.0.0.1:1", "redis+cluster://127.0.0.1:1", "amqp://127.0.0.1:1", "http://127.0.0.1:1"]
)
def test_first_use_after_the_end_of_the_main_thread(url: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", LATE.format(url=url)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment(),
    )
    assert (result.stdout.strip(), result.stderr) == ("unavailable", "")


def missing(name: str) -> ModuleType:
    raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def test_missing_package_is_a_missing_extra() -> None:
    with pytest.raises(MissingExtra, match="pip install x"):
        load_driver("package", "pip install x", lambda: missing("package"))


@pytest.mark.parametrize("name", ["another", "package.part"])
def test_package_that_needs_another_one_is_not_missing(name: str) -> None:
    with pytest.raises(BadConfig, match=name) as raised:
        load_driver("package", "pip install x", lambda: missing(name))
    assert type(raised.value) is BadConfig


def test_broken_package_is_not_missing() -> None:
    def load() -> None:
        raise ImportError("libpq.so.5: cannot open shared object file")

    with pytest.raises(BadConfig, match=r"libpq\.so\.5") as raised:
        load_driver("package", "pip install x", load)
    assert type(raised.value) is BadConfig


def test_half_loaded_package_is_tried_again() -> None:
    errors: list[Exception] = [
        ImportError("cannot import name 'a' from partially initialized module 'p'"),
        AttributeError("partially initialized module 'p' has no attribute 'b'"),
        AttributeError("module 'p' has no attribute 'c'"),
    ]

    def load() -> str:
        if errors:
            raise errors.pop()
        return "loaded"

    assert load_driver("p", "", load) == "loaded"


def test_fork_during_an_import_leaves_the_child_able_to_import() -> None:
    importing, done = threading.Event(), threading.Event()

    def load() -> None:
        importing.set()
        done.wait(20)

    thread = threading.Thread(target=load_driver, args=("p", "", load))
    thread.start()
    importing.wait(20)
    child = os.fork()
    if child == 0:
        os._exit(0 if load_driver("p", "", lambda: 7) == 7 else 1)
    done.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
