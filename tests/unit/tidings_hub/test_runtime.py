"""The event loop behind our names, and the pump in it, in a process of their own (it is patched there)."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

from support.waiting import QUIET_S

ROOT = Path(__file__).resolve().parents[3]


# What each program may use: the runtime, and a way to wait for an effect in it.
PREAMBLE = f"""
import time
from tidings_hub import runtime
runtime.patch()
QUIET_S = {QUIET_S / 3}
def until(condition):
    end_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end_s, "not within 20 s"
        runtime.sleep(0.01)
"""


def run(program: str, **environment: str) -> str:
    """The output of `program`, with the runtime patched before it."""
    text = PREAMBLE + textwrap.dedent(program)
    path = os.pathsep.join(str(ROOT / name) for name in ("hub", "adapters"))
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:eventlet", "-c", text],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Eventlet is deprecated" not in done.stderr
    return done.stdout.strip()


def test_the_hub_is_epolls_and_originals_are_original() -> None:
    assert (
        run("""
        import eventlet.hubs, socket
        print(type(eventlet.hubs.get_hub()).__module__, socket.socket is runtime.original("socket").socket)
        print(hasattr(runtime.original("select"), "epoll"))
    """)
        == "eventlet.hubs.epolls False\nTrue"
    )


def test_a_pool_is_bounded_and_survives_failures() -> None:
    assert (
        run("""
        failed, ran = [], []
        pool = runtime.Pool(2, 3, failed=lambda error: failed.append(str(error)))
        def work(number):
            runtime.sleep(0.01)
            if number == 1:
                raise ValueError("on purpose")
            ran.append(number)
        print([pool.submit(work, number) for number in range(7)])
        until(lambda: not pool.running and not len(pool))
        print(ran, failed, pool.running, len(pool), pool.submit(work, 9))
        until(lambda: ran[-1] == 9)
        print(ran[-1])
    """)
        == "[True, True, True, True, True, False, False]\n[0, 2, 3, 4] ['on purpose'] 0 0 True\n9"
    )


def test_timers_and_signals() -> None:
    assert (
        run("""
        said = []
        signal = runtime.Signal()
        runtime.call_later(0.02, said.append, "later")
        runtime.call_soon(said.append, "soon")
        runtime.call_later(0.01, said.append, "never").cancel()
        runtime.call_later(0.04, signal.set)
        runtime.call_soon(lambda: said.append(runtime.in_hub()))
        print(runtime.in_hub(), signal.wait(0.001) if False else signal.is_set)
        print(signal.wait(5), said)
        signal.set()
    """)
        == "False False\nTrue ['soon', True, 'later']"
    )


PUMP = """
    import os
    from tidings_hub.engine.timing_wheel import Wheel
    from tidings_hub.engine.pump import Pump
    failures, mended = [], []
    wheel = Wheel(0.01, print)
    pump = Pump(
        wheel,
        linger_s=1,
        failed=lambda e: failures.append(str(e)),
        mended=lambda: mended.append(1),
        cut_off=lambda: None,
    )
    pump.start()
    real = runtime.original("os")
    class Reader:
        def __init__(self, wrong=None):
            self.fd, self.theirs = real.pipe()
            real.set_blocking(self.fd, False)
            self.got, self.wrong, self.aborted = b"", wrong, False
            pump.add(self.fd, self)
        def event(self, mask):
            data = real.read(self.fd, 10)
            self.got += data
            if self.wrong:
                raise self.wrong
        def abort(self):
            self.aborted = True
            pump.close(self.fd)
        def write(self, text):
            real.write(self.theirs, text)
        def receive(self, text):
            # Write it and wait until it was read.
            expected = len(self.got) + len(text)
            self.write(text)
            until(lambda: len(self.got) >= expected)
"""


def test_no_exception_makes_the_pump_deaf() -> None:
    assert (
        run(
            PUMP
            + """
    import eventlet
    good = Reader()
    for wrong in (ValueError("a"), eventlet.Timeout(9), GeneratorExit("b"), RecursionError("c")):
        bad = Reader(wrong)
        bad.receive(b"x")
        assert bad.aborted
        good.receive(b"y")
    print(good.got, len(failures), len(pump), mended, pump.alive())
    """
        )
        == "b'yyyy' 4 1 [] True"
    )


def test_a_failing_abort_and_a_failing_log_are_survived() -> None:
    assert (
        run(
            PUMP
            + """
    class Worse(Reader):
        def abort(self):
            raise KeyError("abort")
    def fail(error):
        failures.append(repr(error))
        raise OSError("log")
    pump._failed = fail
    worse, good = Worse(ValueError("event")), Reader()
    worse.receive(b"x")
    good.receive(b"y")
    print(good.got, failures, len(pump))
    """
        )
        == """b'y' ["ValueError('event')", "KeyError('abort')"] 1"""
    )


def test_the_watchdog_registers_a_forgotten_pump_again() -> None:
    assert (
        run(
            PUMP
            + """
    good = Reader()
    good.receive(b"a")
    runtime.unwatch(pump._epoll.fileno())
    good.write(b"b")
    runtime.sleep(QUIET_S)
    print(good.got, pump.alive())
    until(lambda: good.got == b"ab" and mended)
    print(good.got, mended, pump.alive())
    """
        )
        == "b'a' False\nb'ab' [1] True"
    )


def test_it_runs_on_the_asyncio_hub_too() -> None:
    assert (
        run(
            PUMP
            + """
    good = Reader()
    good.receive(b"a")
    print(good.got)
    """,
            EVENTLET_HUB="asyncio",
        )
        == "b'a'"
    )
