"""docs/backends.md does what it says: each way in has a whole program that runs as it is printed and reaches a client.

One hub with all settings of the page on a Redis of its own, one stock client in `orders:42`, real servers around them.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from e2e.compatibility.listening import publications_of
from support.installed_programs import program
from support.ports import free_port
from support.processes.client import ClientProcess
from support.processes.hub import API_KEY, CONFIG, ROOT, HubProcess, environment, token
from support.processes.node_program import FOLDER as NODE_FOLDER
from support.processes.node_program import NodeProgram, node
from support.processes.rabbit import RabbitProcess
from support.processes.redis import RedisProcess
from support.waiting import wait_until

PAGE = (ROOT / "docs" / "backends.md").read_text(encoding="utf-8")
LINES_MAX = 15
PUSHER_SECRET = "7ad3773142a6692b25b8"
SHIPPED = ("shipped", "orders:42", {"order": 42})
PACKED = [("packed", "orders:42", {"order": 42, "parcel": parcel}) for parcel in range(3)]
CREATED = ("updated_model", "orders:42", {"class": "Order", "op": "created", "model": {"id": 42}})
REDIS = {"REDIS_URL": "{redis}"}
# Programs that end by themselves: more of the environment, and what the client is told.
SCRIPTS: dict[str, tuple[dict[str, str], list[Any]]] = {
    "redis_shop.py": ({}, [SHIPPED, *PACKED]),
    "http_shop.py": ({"TIDINGS_URL": "{hub}", "TIDINGS_API_KEY": API_KEY}, [SHIPPED]),
    "curl_shop.sh": ({"TIDINGS_URL": "{hub}", "TIDINGS_API_KEY": API_KEY}, [SHIPPED]),
    "amqp_shop.py": ({"TIDINGS_URL": "{rabbit}?queue=shop"}, [SHIPPED, *PACKED]),
    "list_shop.py": ({"TIDINGS_URL": "kombu+redis://127.0.0.1:{redis_port}/1?queue=shop"}, [SHIPPED]),
    "sqlalchemy_shop.py": ({"DATABASE_URL": "sqlite:///mapped.db"}, [CREATED]),
    "pusher_shop.py": ({"HUB_HOST": "127.0.0.1", "HUB_PORT": "{hub_port}", "PUSHER_SECRET": PUSHER_SECRET}, [SHIPPED]),
    "emitter_shop.mjs": (REDIS, [SHIPPED]),
    "manager_shop.py": (REDIS, [SHIPPED]),
    "flask_socketio_shop.py": (REDIS, [SHIPPED]),
}
APPLICATIONS = ["flask_shop.py", "django_shop.py", "fastapi_shop.py"]
ASKING = ["alarm_shop.sh", "alarm_shop.py"]
OTHERS = [*ASKING, "outbox_shop.py", "relay.sh", "celery_shop.py", "outward_shop.py", "server.mjs"]


@dataclass(frozen=True)
class Program:
    """One program of the page; `command` starts it if its suffix does not say how."""

    section: str
    name: str
    command: str
    text: str


def found(part: str, section: str) -> list[Program]:
    """The programs of one section."""
    blocks = re.findall(r"^```(?:python|js|sh)\n(.*?)^```", part, re.MULTILINE | re.DOTALL)
    made = []
    for text in blocks:
        first = re.match(r"(?:#|//) (\w+\.(?:py|mjs|sh))(?:; (.+))?\n", text)
        assert first, f"its first line does not name it: {text}"
        made.append(Program(section, first[1], first[2] or "", text))
    return made


def slug(title: str) -> str:
    """A heading's anchor, as GitHub makes it."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


SECTIONS = {slug(part.partition("\n")[0]): part for part in re.split(r"^###? ", PAGE, flags=re.MULTILINE)[1:]}
PROGRAMS = {each.name: each for anchor, part in SECTIONS.items() for each in found(part, anchor)}


def test_every_way_has_a_program_and_every_program_is_run() -> None:
    (table,) = re.findall(r"^\| publishing API \|.*\| example program \|.*\n\|.*\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    linked = set()
    for row in table.splitlines():
        anchors = re.findall(r"\]\(#([^)]+)\)", row.split(" | ")[3])
        assert anchors, row
        linked |= set(anchors)
    assert linked == {each.section for each in PROGRAMS.values() if each.name not in ASKING}
    assert set(PROGRAMS) == {*SCRIPTS, *APPLICATIONS, *OTHERS}


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_is_short(name: str) -> None:
    # As in all of the docs: the empty lines that the formatter wants do not count.
    assert len([line for line in PROGRAMS[name].text.splitlines() if line.strip()]) <= LINES_MAX


@dataclass
class Scene:
    """What the programs meet: a hub with the page's settings, and a client."""

    folder: Path
    hub: HubProcess
    client: ClientProcess
    places: dict[str, str]

    def environment(self, **more: str) -> dict[str, str]:
        """What a program is started with: the hub's Redis, unless it is told otherwise."""
        own = {name: value.format(**self.places) for name, value in ({"TIDINGS_URL": "{redis}"} | more).items()}
        # `tidings` and the like are found where this Python is.
        return environment() | own | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}

    def write(self, name: str) -> Path:
        """A program of the page, as a file."""
        path = self.folder / name
        path.write_text(PROGRAMS[name].text)
        return path

    def run(self, name: str, **more: str) -> str:
        """Run a program of the page to its end; what it printed."""
        path = self.write(name)
        by_suffix = {
            ".py": [sys.executable],
            ".sh": [program("sh")],
            ".mjs": node("")[:1] if path.suffix == ".mjs" else [],
        }
        return self.finish([*by_suffix[path.suffix], str(path)], **more)

    def finish(self, command: list[str], **more: str) -> str:
        """Run a command to its end; what it printed."""
        env = self.environment(**more)
        done = subprocess.run(
            command, cwd=self.folder, env=env, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @contextmanager
    def running(self, command: list[str], **more: str) -> Iterator[Path]:
        """Run a command until the block ends; gives its log. It is ended with its children."""
        log = self.folder / f"{len(list(self.folder.glob('*.log')))}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environment(**more),
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        try:
            yield log
            assert process.poll() is None, log.read_text()
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(20)

    @contextmanager
    def telling(self, *expected: tuple[str, str, Any]) -> Iterator[None]:
        """In the block the client is told exactly this, in this order."""
        before = len(publications_of(self.client))
        yield
        self.client.wait(lambda client: len(publications_of(client)) >= before + len(expected), why=str(expected))
        new = publications_of(self.client)[before:]
        for event, _, data in new:
            if event == "updated_model":
                assert data.pop("version")
        assert new == list(expected)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    """Of this module: its programs use the default prefix, and formats that have none."""
    server = RedisProcess(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def scene(
    redis: RedisProcess, shared_rabbit: RabbitProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    settings = "".join(re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
    for printed, own in {
        "hub:…@rabbit.internal:5672/": f"guest:guest@127.0.0.1:{shared_rabbit.port}/",
        "queue.internal:6379": f"127.0.0.1:{redis.port}",
        "<openssl rand -hex 24>": PUSHER_SECRET,
    }.items():
        assert settings.count(printed) == 1
        settings = settings.replace(printed, own)
    base = CONFIG.partition("[namespaces")[0]
    hub = HubProcess(tmp_path_factory.mktemp("hub"), "--broker", redis.url, config=base + settings)
    folder = tmp_path_factory.mktemp("shop")
    # Where Node finds what the programs import.
    (folder / "node_modules").symlink_to(NODE_FOLDER / "node_modules")
    places = {"redis": redis.url, "redis_port": str(redis.port), "rabbit": shared_rabbit.url}
    try:
        places |= {"hub": hub.start().url, "hub_port": str(hub.port)}
        wait_until(lambda: hub.metric("tidings_ingress_connected") == 2, why="it listens to both queues")
        wait_until(lambda: hub.metric("tidings_wires_listening") == 2, why="it listens to both formats")
        client = ClientProcess("js-websocket", hub.url, token=token("7", "orders:*"), channels=["orders:42"], acks=True)
        try:
            yield Scene(folder, hub, client.wait_ready(), places)
        finally:
            client.stop()
    finally:
        hub.stop()
    assert "Traceback" not in hub.log.read_text()


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script(scene: Scene, name: str) -> None:
    more, expected = SCRIPTS[name]
    with scene.telling(*expected):
        scene.run(name, **more)


def test_what_became_of_it(scene: Scene) -> None:
    alarm = ("alarm", "orders:42", {"order": 42})
    with scene.telling(alarm):
        said = scene.run("alarm_shop.sh", TIDINGS_URL="{hub}", TIDINGS_API_KEY=API_KEY)
    assert "\nLocation: /api/publications/alarm-42" in said
    assert json.loads(said.splitlines()[-1])["id"] == "alarm-42"
    with scene.telling(alarm):
        assert scene.run("alarm_shop.py").startswith("1 of 1 ")


def accepts(port: int) -> bool:
    """Whether somebody listens there."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.connect()
    except OSError:
        return False
    else:
        return True
    finally:
        connection.close()


@pytest.mark.parametrize("name", APPLICATIONS)
def test_a_web_application(scene: Scene, name: str) -> None:
    scene.write(name)
    port = free_port()
    server, *arguments = shlex.split(PROGRAMS[name].command)
    options = f"--bind 127.0.0.1:{port} --no-control-socket"
    command = [sys.executable, "-W", "ignore", "-m", server, *arguments]
    with scene.running(command, GUNICORN_CMD_ARGS=options) as log:
        wait_until(lambda: accepts(port), why=f"{server} listens: {log.read_text()}")
        with scene.telling(SHIPPED):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            connection.request("POST", "/orders/42/ship", headers={"Content-Length": "0"})
            status = connection.getresponse().status
            connection.close()
            assert status == 204, log.read_text()


def test_the_outbox(scene: Scene) -> None:
    database = "sqlite:///outbox.db"
    scene.run("outbox_shop.py", TIDINGS_OUTBOX_URL=database)
    relay = [program("sh"), str(scene.write("relay.sh"))]
    with ExitStack() as ended, scene.telling(SHIPPED):
        ended.enter_context(scene.running(relay, TIDINGS_OUTBOX_URL=database))


def test_celery(scene: Scene) -> None:
    scene.write("celery_shop.py")
    more = {"BROKER_URL": "redis://127.0.0.1:{redis_port}/5"}
    server, *arguments = shlex.split(PROGRAMS["celery_shop.py"].command)
    before = len(publications_of(scene.client))
    with scene.running([sys.executable, "-W", "ignore", "-m", server, *arguments], **more) as log:
        scene.finish([sys.executable, "-c", "from celery_shop import ship; ship.delay(42)"], **more)
        scene.client.wait(lambda client: len(publications_of(client)) >= before + 3, why=log.read_text())
    started, shipped, done = publications_of(scene.client)[before:]
    assert [(event, data["task"], data["state"]) for event, _, data in (started, done)] == [
        ("task", "shop.ship", "STARTED"),
        ("task", "shop.ship", "SUCCESS"),
    ]
    assert shipped == SHIPPED


def test_outwards(scene: Scene, tmp_path: Path) -> None:
    # Of its own: the hub would hear it as well.
    redis = RedisProcess(tmp_path).start()
    port = free_port()
    server = [*node("")[:1], str(scene.write("server.mjs"))]
    try:
        with scene.running(server, REDIS_URL=redis.url, PORT=str(port)) as log:
            wait_until(lambda: accepts(port), why=f"the server listens: {log.read_text()}")
            client = NodeProgram("socketio_client.mjs", {"port": port, "rooms": []})
            try:
                assert client.read_line() == {"joined": True}
                scene.run("outward_shop.py", TIDINGS_URL=f"socketio+{redis.url}")
                assert client.read_line() == {"event": "shipped", "given": [{"order": 42}]}
            finally:
                client.stop()
    finally:
        redis.stop()
