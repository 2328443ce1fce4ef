"""`tidings serve` with a database of notifications: the service is a child that starts, restarts and drains with it."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.ports import free_port
from support.processes.client import ClientProcess
from support.processes.hub import CONFIG, HubProcess, token
from support.processes.redis import RedisProcess
from support.waiting import wait_until

QUICK = "drain_s = 5\ndrain_notice_s = 0\n"


def table(port: int, *categories: str) -> str:
    """The settings of a service on this port."""
    lines = ["[notifications]", 'database = "sqlite:///notifications.db"', f'listen = "127.0.0.1:{port}"']
    return "\n".join([*lines, *(f"[notifications.categories.{name}]" for name in categories)]) + "\n"


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def hub(tmp_path: Path, port: int) -> Iterator[HubProcess]:
    process = HubProcess(tmp_path, extra=QUICK, config=CONFIG + table(port, "mention"))
    yield process
    pids = list(children(process))
    process.stop()
    wait_until(lambda: not any(map(is_running, pids)), within_s=40, why="the children end with their supervisor")


def children(hub: HubProcess) -> dict[int, str]:
    """The command lines of the children of a hub, by process id."""
    path = Path(f"/proc/{hub.pid}/task/{hub.pid}/children")
    pids = [int(pid) for pid in path.read_text().split()] if path.exists() else []
    return {pid: Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ") for pid in pids}


def service_pid(hub: HubProcess) -> int | None:
    return next((pid for pid, command in children(hub).items() if "tidings_hub notifications" in command), None)


def is_running(pid: int) -> bool:
    path = Path(f"/proc/{pid}/stat")
    return path.exists() and path.read_text().rpartition(")")[2].split()[0] != "Z"


def notify(hub: HubProcess, id_: str, category: str = "mention") -> int:
    """Notify user 7; return the status."""
    fields = {"category": category, "user": "7", "title": f"Title of {id_}", "id": id_}
    return hub.request("POST", "/api/notifications", fields)[0]


def wait_stored(hub: HubProcess, id_: str, category: str = "mention") -> None:
    wait_until(lambda: notify(hub, id_, category) == 200, within_s=60, why=lambda: hub.log.read_text()[-3000:])


def titles(client: ClientProcess) -> list[str]:
    return [record["item"]["title"] for record in client.records_of("notification")]


def test_a_killed_service_is_restarted_and_loses_nothing(hub: HubProcess, clients: list[ClientProcess]) -> None:
    hub.start()
    wait_stored(hub, "a")
    clients.append(ClientProcess("python-websocket", hub.url, token=token("7"), channels=[]).wait_ready())
    wait_stored(hub, "b")
    before = service_pid(hub)
    assert before is not None
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: service_pid(hub) not in {None, before}, within_s=40, why="a new service")
    wait_stored(hub, "c")
    clients[0].wait(lambda client: "Title of c" in titles(client), why="the event of c")
    assert titles(clients[0])[-2:] == ["Title of b", "Title of c"]
    assert clients[0].records_of("disconnect") == []
    page = clients[0].request("tidings:inbox", {})
    assert [item["title"] for item in page["items"]] == ["Title of c", "Title of b", "Title of a"]


def test_stopped_service_is_killed_and_replaced(tmp_path: Path, port: int) -> None:
    hub = HubProcess(tmp_path, extra=QUICK + "worker_timeout_s = 3\n", config=CONFIG + table(port, "mention")).start()
    try:
        wait_stored(hub, "a")
        before = service_pid(hub)
        assert before is not None
        # Longer than its time limit: heartbeats arrive.
        time.sleep(4)
        assert service_pid(hub) == before
        os.kill(before, signal.SIGSTOP)
        wait_until(lambda: service_pid(hub) not in {None, before}, within_s=60, why=lambda: hub.log.read_text()[-3000:])
        wait_stored(hub, "b")
        assert hub.log.read_text().count("the notification service hangs") == 1
        assert hub.terminate() == 0
    finally:
        hub.stop()


def test_sigterm_drains_the_node_and_then_the_service(hub: HubProcess) -> None:
    hub.start()
    wait_stored(hub, "a")
    pids = list(children(hub))
    assert len(pids) == 2
    assert hub.terminate() == 0
    assert not any(map(is_running, pids))
    lines = hub.log.read_text().splitlines()
    node = next(number for number, line in enumerate(lines) if " tidings draining" in line)
    service = next(number for number, line in enumerate(lines) if " tidings.notifications draining" in line)
    assert node < service
    assert " tidings.notifications stopped" in lines[-1]


def test_a_service_that_cannot_start_does_not_stop_the_hub(hub: HubProcess, port: int) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        hub.start()
        wait_until(lambda: "the notification service ended with 2" in hub.log.read_text(), within_s=60, why="its end")
        log = hub.log.read_text()
        assert f"cannot listen on 127.0.0.1:{port}" in log
        assert "start `tidings notifications` once" in log
        assert hub.publish("chat:room", "said", 1)["cursor"]
        # Something else listens at its address, and never answers.
        assert notify(hub, "early") in {503, 504}
    wait_stored(hub, "a")


def test_hub_whose_service_waits_for_its_next_start_stops_at_once(tmp_path: Path, port: int) -> None:
    missing = table(port, "mention").replace("sqlite:///", f"sqlite:///{tmp_path}/missing/")
    hub = HubProcess(tmp_path, extra=QUICK, config=CONFIG + missing).start()
    try:
        wait_until(
            lambda: hub.log.read_text().count("the notification service ended with 2") > 1,
            within_s=60,
            why="the second attempt",
        )
        assert "cannot open the database file" in hub.log.read_text()
        assert hub.terminate() == 0
    finally:
        hub.stop()


def test_sighup_gives_the_service_its_new_settings_and_wrong_ones_change_nothing(hub: HubProcess, port: int) -> None:
    hub.start()
    wait_stored(hub, "a")
    before = service_pid(hub)
    hub.config.write_text(QUICK + CONFIG + table(port, "Mention!"))
    hub.reload()
    wait_until(lambda: "the notification service keeps its settings" in hub.log.read_text(), why="the refusal")
    assert service_pid(hub) == before
    wait_stored(hub, "b")
    hub.config.write_text(QUICK + CONFIG + table(port, "mention", "reply"))
    hub.reload()
    wait_stored(hub, "c", "reply")
    assert service_pid(hub) not in {None, before}
    assert "ended with" not in hub.log.read_text()


def test_development_hub_needs_no_secret_and_no_key(tmp_path: Path, port: int) -> None:
    hub = HubProcess(tmp_path, "--dev", config=table(port, "mention")).start()
    try:
        wait_stored(hub, "a")
    finally:
        pids = list(children(hub))
        # Its children end with it, without a signal.
        hub.stop()
        wait_until(lambda: not any(map(is_running, pids)), within_s=40, why="the children end")


def test_several_nodes_on_redis_share_one_service(tmp_path: Path, port: int) -> None:
    folder = tmp_path / "redis"
    folder.mkdir()
    redis = RedisProcess(folder).start()
    hub = HubProcess(
        tmp_path, "--broker", redis.url, "--workers", "2", extra=QUICK, config=CONFIG + table(port, "mention")
    )
    try:
        hub.start()
        for number in range(10):
            wait_stored(hub, f"n{number}")
        assert len(children(hub)) == 3
        assert hub.terminate() == 0
    finally:
        hub.stop()
        redis.stop()


def test_events_arrive_although_the_hub_has_no_api_key(hub: HubProcess, clients: list[ClientProcess]) -> None:
    hub.start()
    wait_stored(hub, "before")
    assert hub.terminate() == 0
    text = hub.config.read_text()
    hub.config.write_text("".join(line for line in text.splitlines(keepends=True) if not line.startswith("api_keys")))
    hub.start()
    clients.append(ClientProcess("python-websocket", hub.url, token=token("7"), channels=[]).wait_ready())
    headers = {"Authorization": f"Bearer {token('7')}"}
    mark = {"action": "read", "all": True}
    wait_until(lambda: hub.request("POST", "/inbox/mark", mark, headers)[0] == 200, within_s=60, why="the mark")
    clients[-1].wait(lambda self: self.records_of("inbox"), why="the event of the mark")
    assert notify(hub, "after") == 401
