"""Programs of docs/backends.md: each publishing API has a program that runs unchanged and reaches a client.

The tests use one hub with all settings of the page, a separate Redis, one stock client in `orders:42` and real servers.
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
# Programs that end by themselves: additional environment variables, and the publications that the client receives.
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
REPORTING = ["alarm_shop.sh", "alarm_shop.py"]
OTHERS = [*REPORTING, "outbox_shop.py", "relay.sh", "celery_shop.py", "outward_shop.py", "server.mjs"]


@dataclass(frozen=True)
class Program:
    """One program of the page; `command` starts it if its suffix is not enough."""

    section: str
    name: str
    command: str
    text: str


def programs_of(part: str, section: str) -> list[Program]:
    """Return the programs of one section."""
    blocks = re.findall(r"^```(?:python|js|sh)\n(.*?)^```", part, re.MULTILINE | re.DOTALL)
    programs = []
    for text in blocks:
        first = re.match(r"(?:#|//) (\w+\.(?:py|mjs|sh))(?:; (.+))?\n", text)
        assert first, f"the first line of a program must name it: {text}"
        programs.append(Program(section, first[1], first[2] or "", text))
    return programs


def slug(title: str) -> str:
    """Return the anchor that GitHub generates for a heading."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


SECTIONS = {slug(part.partition("\n")[0]): part for part in re.split(r"^###? ", PAGE, flags=re.MULTILINE)[1:]}
PROGRAMS = {entry.name: entry for anchor, part in SECTIONS.items() for entry in programs_of(part, anchor)}


def test_every_publishing_api_has_a_program_and_every_program_is_run() -> None:
    (table,) = re.findall(r"^\| publishing API \|.*\| example program \|.*\n\|.*\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    linked = set()
    for row in table.splitlines():
        anchors = re.findall(r"\]\(#([^)]+)\)", row.split(" | ")[3])
        assert anchors, row
        linked |= set(anchors)
    assert linked == {entry.section for entry in PROGRAMS.values() if entry.name not in REPORTING}
    assert set(PROGRAMS) == {*SCRIPTS, *APPLICATIONS, *OTHERS}


@pytest.mark.parametrize("name", PROGRAMS)
def test_program_is_short(name: str) -> None:
    # As in all of the docs, empty lines do not count.
    assert len([line for line in PROGRAMS[name].text.splitlines() if line.strip()]) <= LINES_MAX


@dataclass
class Scene:
    """The environment of the programs: a hub with the page's settings, and a client."""

    folder: Path
    hub: HubProcess
    client: ClientProcess
    places: dict[str, str]

    def environment(self, **variables: str) -> dict[str, str]:
        """Return the environment variables of a program; `TIDINGS_URL` is the hub's Redis by default."""
        formatted = {
            name: value.format(**self.places) for name, value in ({"TIDINGS_URL": "{redis}"} | variables).items()
        }
        # `tidings` and other commands are in the directory of this Python.
        return environment() | formatted | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}

    def write(self, name: str) -> Path:
        """Write a program of the page to a file, and return its path."""
        path = self.folder / name
        path.write_text(PROGRAMS[name].text)
        return path

    def run(self, name: str, **variables: str) -> str:
        """Run a program of the page, and return its output."""
        path = self.write(name)
        by_suffix = {
            ".py": [sys.executable],
            ".sh": [program("sh")],
            ".mjs": node("")[:1] if path.suffix == ".mjs" else [],
        }
        return self.finish([*by_suffix[path.suffix], str(path)], **variables)

    def finish(self, command: list[str], **variables: str) -> str:
        """Run a command, check that it succeeds, and return its output."""
        env = self.environment(**variables)
        result = subprocess.run(
            command, cwd=self.folder, env=env, capture_output=True, text=True, timeout=60, check=False
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    @contextmanager
    def running(self, command: list[str], **variables: str) -> Iterator[Path]:
        """Run a command until the block ends, and yield its log file. Its child processes are killed as well."""
        log = self.folder / f"{len(list(self.folder.glob('*.log')))}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environment(**variables),
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
    def expect_publications(self, *expected: tuple[str, str, Any]) -> Iterator[None]:
        """Check that the client receives exactly these publications during the block, in this order."""
        before = len(publications_of(self.client))
        yield
        self.client.wait(
            lambda client: len(publications_of(client)) >= before + len(expected), why=lambda: str(expected)
        )
        new = publications_of(self.client)[before:]
        for event, _, data in new:
            if event == "updated_model":
                assert data.pop("version")
                assert data.pop("version_kind")
        assert new == list(expected)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    """A Redis for this module only: its programs use the default prefix or formats without a prefix."""
    server = RedisProcess(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def scene(
    redis: RedisProcess, shared_rabbit: RabbitProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    settings = "".join(re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
    for printed, actual in {
        "hub:…@rabbit.internal:5672/": f"guest:guest@127.0.0.1:{shared_rabbit.port}/",
        "queue.internal:6379": f"127.0.0.1:{redis.port}",
        "<openssl rand -hex 24>": PUSHER_SECRET,
    }.items():
        assert settings.count(printed) == 1
        settings = settings.replace(printed, actual)
    base = CONFIG.partition("[namespaces")[0]
    hub = HubProcess(tmp_path_factory.mktemp("hub"), "--broker", redis.url, config=base + settings)
    folder = tmp_path_factory.mktemp("shop")
    # Node resolves the imports of the programs here.
    (folder / "node_modules").symlink_to(NODE_FOLDER / "node_modules")
    places = {"redis": redis.url, "redis_port": str(redis.port), "rabbit": shared_rabbit.url}
    try:
        places |= {"hub": hub.start().url, "hub_port": str(hub.port)}
        wait_until(lambda: hub.metric("tidings_ingress_connected") == 2, why="the hub listens to both queues")
        wait_until(lambda: hub.metric("tidings_wires_listening") == 2, why="the hub listens to both formats")
        client = ClientProcess("js-websocket", hub.url, token=token("7", "orders:*"), channels=["orders:42"], acks=True)
        try:
            yield Scene(folder, hub, client.wait_ready(), places)
        finally:
            client.stop()
    finally:
        hub.stop()
    assert "Traceback" not in hub.log.read_text()


@pytest.mark.parametrize("name", SCRIPTS)
def test_script_reaches_the_client(scene: Scene, name: str) -> None:
    variables, expected = SCRIPTS[name]
    with scene.expect_publications(*expected):
        scene.run(name, **variables)


def test_delivery_report_programs_print_the_report(scene: Scene) -> None:
    alarm = ("alarm", "orders:42", {"order": 42})
    with scene.expect_publications(alarm):
        output = scene.run("alarm_shop.sh", TIDINGS_URL="{hub}", TIDINGS_API_KEY=API_KEY)
    assert "\nLocation: /api/publications/alarm-42" in output
    assert json.loads(output.splitlines()[-1])["id"] == "alarm-42"
    with scene.expect_publications(alarm):
        assert scene.run("alarm_shop.py").startswith("1 of 1 ")


def accepts(port: int) -> bool:
    """Return whether a server accepts connections on this port."""
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
def test_web_application_reaches_the_client(scene: Scene, name: str) -> None:
    scene.write(name)
    port = free_port()
    server, *arguments = shlex.split(PROGRAMS[name].command)
    options = f"--bind 127.0.0.1:{port} --no-control-socket"
    command = [sys.executable, "-W", "ignore", "-m", server, *arguments]
    with scene.running(command, GUNICORN_CMD_ARGS=options) as log:
        wait_until(lambda: accepts(port), why=lambda: f"{server} listens: {log.read_text()}")
        with scene.expect_publications(SHIPPED):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            connection.request("POST", "/orders/42/ship", headers={"Content-Length": "0"})
            status = connection.getresponse().status
            connection.close()
            assert status == 204, log.read_text()


def test_outbox_programs_reach_the_client(scene: Scene) -> None:
    database = "sqlite:///outbox.db"
    scene.run("outbox_shop.py", TIDINGS_OUTBOX_URL=database)
    relay = [program("sh"), str(scene.write("relay.sh"))]
    with ExitStack() as stack, scene.expect_publications(SHIPPED):
        stack.enter_context(scene.running(relay, TIDINGS_OUTBOX_URL=database))


def test_celery_program_reaches_the_client(scene: Scene) -> None:
    scene.write("celery_shop.py")
    variables = {"BROKER_URL": "redis://127.0.0.1:{redis_port}/5"}
    server, *arguments = shlex.split(PROGRAMS["celery_shop.py"].command)
    before = len(publications_of(scene.client))
    with scene.running([sys.executable, "-W", "ignore", "-m", server, *arguments], **variables) as log:
        scene.finish([sys.executable, "-c", "from celery_shop import ship; ship.delay(42)"], **variables)
        scene.client.wait(lambda client: len(publications_of(client)) >= before + 3, why=log.read_text)
    started, shipped, succeeded = publications_of(scene.client)[before:]
    assert [(event, data["task"], data["state"]) for event, _, data in (started, succeeded)] == [
        ("task", "shop.ship", "STARTED"),
        ("task", "shop.ship", "SUCCESS"),
    ]
    assert shipped == SHIPPED


def test_program_emits_to_another_socketio_server(scene: Scene, tmp_path: Path) -> None:
    # A separate Redis, because the hub would receive the emit as well.
    redis = RedisProcess(tmp_path).start()
    port = free_port()
    server = [*node("")[:1], str(scene.write("server.mjs"))]
    try:
        with scene.running(server, REDIS_URL=redis.url, PORT=str(port)) as log:
            wait_until(lambda: accepts(port), why=lambda: f"the server listens: {log.read_text()}")
            client = NodeProgram("socketio_client.mjs", {"port": port, "rooms": []})
            try:
                assert client.read_line() == {"joined": True}
                scene.run("outward_shop.py", TIDINGS_URL=f"socketio+{redis.url}")
                assert client.read_line() == {"event": "shipped", "given": [{"order": 42}]}
            finally:
                client.stop()
    finally:
        redis.stop()
