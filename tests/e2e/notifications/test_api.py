"""The HTTP API of the notification service, as a node uses it."""

from __future__ import annotations

import json
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from support.notification_scene import NotificationScene
from support.processes.client import ClientProcess
from support.processes.database import Database, Sqlite
from support.processes.hub import CONFIG, HubProcess, token
from support.processes.notifications import CATEGORIES, KEY, NotificationsProcess
from support.waiting import wait_until

NOW_MS = 1_764_000_000_000


def item(id_: str = "a", **more: object) -> dict[str, object]:
    return {"category": "order_shipped", "user": "7", "title": "T", "id": id_, "at_ms": NOW_MS} | more


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """A hub without Redis. The service publishes to it over HTTP."""
    process = HubProcess(tmp_path_factory.mktemp("hub"), config=CONFIG + CATEGORIES)
    process.start()
    # Without Redis the service finds the hub by its port in the settings.
    process.config.write_text(f"port = {process.port}\n" + process.config.read_text())
    yield process
    process.stop()


@pytest.fixture(scope="module")
def service(hub: HubProcess) -> Iterator[NotificationsProcess]:
    database = Sqlite()
    process = NotificationsProcess(hub.config, database.url)
    try:
        yield process.start()
    finally:
        process.stop()
        database.stop()


def code_of(body: Any) -> str:
    assert set(body) == {"error"}
    assert body["error"]["message"]
    return str(body["error"]["code"])


def test_notification_over_http_is_stored_before_the_response_and_reaches_the_user(
    hub: HubProcess, service: NotificationsProcess, clients: list[ClientProcess]
) -> None:
    client = ClientProcess("python-websocket", hub.url, token=token("ann"), channels=[])
    clients.append(client)
    client.wait_ready()
    notification = item("first", user="ann", body="B", url="/orders/1", data={"order": 1})
    for is_duplicate in (False, True):
        status, body = service.request("POST", "/notifications", {"notifications": [notification]})
        assert (status, body) == (200, {"results": [{"id": "first", "state": "stored", "duplicate": is_duplicate}]})
    status, page = service.request("GET", "/inbox?user=ann")
    assert (status, page["counts"], len(page["items"])) == (200, {"unseen": 1, "unread": 1}, 1)
    assert page["items"][0]["data"] == {"order": 1}
    client.wait(lambda self: self.records_of("notification"), why="the event")
    (record,) = client.records_of("notification")
    assert (record["item"]["id"], record["counts"]) == (page["items"][0]["id"], page["counts"])


def test_marks_and_deletions_reach_the_user(
    hub: HubProcess, service: NotificationsProcess, clients: list[ClientProcess]
) -> None:
    client = ClientProcess("python-websocket", hub.url, token=token("bob"), channels=[])
    clients.append(client)
    client.wait_ready()
    notifications = [item(f"n{number}", user="bob", group="g") for number in range(2)]
    notifications[1]["group"] = "other"
    service.request("POST", "/notifications", {"notifications": notifications})
    ids = [entry["id"] for entry in service.request("GET", "/inbox?user=bob&limit=10")[1]["items"]]
    status, marked = service.request("POST", "/inbox/mark", {"user": "bob", "action": "read", "ids": [ids[0], "x"]})
    assert (status, marked["count"], marked["unknown"]) == (200, 1, ["x"])
    assert marked["counts"] == {"unseen": 1, "unread": 1}
    assert service.request("POST", "/inbox/mark", {"user": "bob", "action": "seen", "all": True})[1]["count"] == 1
    assert len(service.request("GET", "/inbox?user=bob&unread=true")[1]["items"]) == 1
    status, deleted = service.request("POST", "/notifications/delete", {"user": "bob", "group": "g"})
    assert (status, deleted["count"]) == (200, 1)
    client.wait(lambda self: len(self.records_of("inbox")) == 3, why="three changes")
    versions = [record["version"] for record in client.records_of("notification") + client.records_of("inbox")]
    assert versions == list(range(1, 6))


def test_preferences_suppress_a_category(service: NotificationsProcess) -> None:
    choice = {"user": "cy", "category": "order_shipped", "method": "in_app", "enabled": False}
    status, body = service.request("PUT", "/inbox/preferences", choice)
    assert status == 200
    assert service.request("GET", "/inbox/preferences?user=cy") == (200, body)
    labels = {entry["category"]: (entry["label"], entry["methods"]["in_app"]) for entry in body["preferences"]}
    assert labels == {
        "mention": ("mention", True),
        "order_shipped": ("Shipping", False),
        "security": ("security", True),
    }
    status, body = service.request("POST", "/notifications", {"notifications": [item("s", user="cy")]})
    assert body["results"][0]["state"] == "suppressed"
    status, body = service.request("PUT", "/inbox/preferences", choice | {"category": "security"})
    assert (status, code_of(body)) == (403, "forbidden")


def test_wrong_notification_has_its_error_and_the_others_are_stored(service: NotificationsProcess) -> None:
    notifications = [
        item("ok-1", user="dan"),
        item("bad", user="dan", category="unheard_of"),
        item("bad", user="dan", title=""),
        item("bad", user="dan", url="javascript:alert(1)"),
        item("ok-2", user="dan"),
    ]
    status, body = service.request("POST", "/notifications", {"notifications": notifications})
    assert status == 200
    codes = [result["error"]["code"] if "error" in result else result["state"] for result in body["results"]]
    assert codes == ["stored", "unknown_category", "bad_request", "bad_request", "stored"]
    assert len(service.request("GET", "/inbox?user=dan")[1]["items"]) == 2


@pytest.mark.parametrize("key", [None, "", KEY[:-1], KEY + "0", KEY.upper(), "0" * 64, "é"])
@pytest.mark.parametrize("path", ["/inbox?user=7", "/nowhere"])
def test_wrong_key_is_rejected(service: NotificationsProcess, key: str | None, path: str) -> None:
    status, body = service.request("GET", path, key=None if key is None else key.encode().decode("latin-1"))
    assert (status, code_of(body)) == (401, "unauthorized")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "/notifications", b"{", 400, "bad_request"),
        ("POST", "/notifications", b"[" * 100_000, 400, "bad_request"),
        ("POST", "/notifications", b"\xff", 400, "bad_request"),
        ("POST", "/notifications", b"", 400, "bad_request"),
        ("POST", "/notifications", [], 400, "bad_request"),
        ("POST", "/notifications", {"notifications": []}, 400, "bad_request"),
        ("POST", "/notifications", {"notifications": {}}, 400, "bad_request"),
        ("POST", "/notifications", {"notifications": [item()], "more": 1}, 400, "bad_request"),
        ("POST", "/notifications", {"notifications": [item()] * 1_001}, 413, "too_large"),
        ("POST", "/notifications/delete", {"user": "7"}, 400, "bad_request"),
        ("POST", "/notifications/delete", {"user": "7", "ids": ["a"], "group": "g"}, 400, "bad_request"),
        ("POST", "/notifications/delete", {"ids": ["a"]}, 400, "bad_channel"),
        ("POST", "/inbox/mark", {"user": "7", "action": "burn", "ids": ["a"]}, 400, "bad_request"),
        ("POST", "/inbox/mark", {"user": "7", "action": "read"}, 400, "bad_request"),
        ("POST", "/inbox/mark", {"user": "7", "action": "read", "all": "yes"}, 400, "bad_request"),
        ("POST", "/inbox/mark", {"user": "7", "action": "read", "ids": ["a"] * 1_001}, 413, "too_large"),
        ("POST", "/inbox/mark", {"user": ["7"], "action": "read", "all": True}, 400, "bad_channel"),
        ("GET", "/inbox", None, 400, "bad_channel"),
        ("GET", "/inbox?user=a%20b", None, 400, "bad_channel"),
        ("GET", "/inbox?user=7&limit=0", None, 400, "bad_request"),
        ("GET", "/inbox?user=7&limit=101", None, 400, "bad_request"),
        ("GET", "/inbox?user=7&limit=-1", None, 400, "bad_request"),
        ("GET", "/inbox?user=7&archived=1", None, 400, "bad_request"),
        ("GET", "/inbox?user=7&before=x", None, 400, "bad_request"),
        ("GET", "/inbox?user=7&colour=red", None, 400, "bad_request"),
        ("PUT", "/inbox/preferences", {"user": "7"}, 400, "bad_request"),
        ("PUT", "/inbox/preferences", {"user": "7", "category": "nope"}, 404, "unknown_category"),
        ("GET", "/nowhere", None, 404, "not_found"),
        ("PUT", "/inbox", {}, 405, "not_allowed"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_wrong_request_is_rejected_with_its_code(
    service: NotificationsProcess, method: str, path: str, body: object, status: int, code: str
) -> None:
    answer, content = service.request(method, path, body)
    assert (answer, code_of(content)) == (status, code), content


def test_body_beyond_the_limit_is_counted(service: NotificationsProcess) -> None:
    before = service.metric("tidings_notifications_too_large_total")
    head = f"POST /notifications HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Length: 16777217\r\n\r\n"
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        connection.sendall(head.encode())
        response = b"".join(iter(lambda: connection.recv(65_536), b""))
    assert response.startswith(b"HTTP/1.1 413")
    assert code_of(json.loads(response.partition(b"\r\n\r\n")[2])) == "too_large"
    assert service.metric("tidings_notifications_too_large_total") == before + 1


def test_health_and_metrics_need_no_key(service: NotificationsProcess) -> None:
    assert service.request("GET", "/healthz", key=None) == (200, {"status": "ok"})
    status, body = service.request("GET", "/readyz", key=None)
    assert (status, body["ready"], body["checks"]["database"]) == (200, True, "ok")
    status, text = service.request("GET", "/metrics", key=None)
    assert status == 200
    assert b"tidings_notifications_stored_total" in text


def test_request_of_another_protocol_is_answered(service: NotificationsProcess) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
        connection.sendall(b"\x16\x03\x01 no http\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.0 400")


def test_service_finishes_running_requests_at_its_end(on_sqlite: NotificationScene) -> None:
    scene = on_sqlite
    answers: list[int] = []

    def notify() -> None:
        answers.append(scene.service.request("POST", "/notifications", {"notifications": [item("late")]})[0])

    with scene.database.engine().connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        thread = threading.Thread(target=notify)
        thread.start()
        wait_until(lambda: _threads_waiting(scene), why="the request runs")
        scene.service.signal(signal.SIGTERM)
        connection.rollback()
    assert scene.service.wait() == 0, scene.service.log.read_text()
    thread.join(20)
    assert answers == [200]
    scene.check_stored(["late"])


def _threads_waiting(scene: NotificationScene) -> bool:
    """Whether the server has read the request: its socket holds no unread bytes, which /proc shows."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    port = f":{scene.service.port:04X}"
    states = [line.split() for line in lines]
    return any(words[1].endswith(port) and words[3] == "01" and words[4].endswith("00000000") for words in states)


def test_setting_without_secret_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "tidings.toml"
    config.write_text(CATEGORIES)
    process = NotificationsProcess(config, f"sqlite:///{tmp_path}/n.db")
    try:
        process.start(ready=False)
        assert process.wait() == 2
        assert "shared secret" in process.log.read_text()
    finally:
        process.stop()


def test_tables_are_created_by_a_command_of_its_own(hub: HubProcess, database_of: Callable[[str], Database]) -> None:
    process = NotificationsProcess(hub.config, database_of("postgresql").url)
    migration = NotificationsProcess(hub.config, database_of("postgresql").url, "--migrate")
    try:
        process.start(ready=False)
        assert process.wait() == 2
        assert "run: tidings notifications --migrate" in process.log.read_text()
        process.stop()
        for _ in range(2):
            migration.start(ready=False)
            assert migration.wait() == 0
            migration.stop()
        process.start()
        assert process.terminate() == 0
    finally:
        process.stop()


def test_address_in_use_is_refused(service: NotificationsProcess, hub: HubProcess, tmp_path: Path) -> None:
    process = NotificationsProcess(hub.config, f"sqlite:///{tmp_path}/n.db", port=service.port)
    try:
        log_bytes = process.log.stat().st_size
        process.start(ready=False)
        assert process.wait() == 2
        assert "cannot listen" in process.log.read_text()[log_bytes:]
    finally:
        process.stop()


def test_requests_that_wait_for_a_thread_leave_no_line_in_the_log(service: NotificationsProcess) -> None:
    # More than `threads`.
    results: list[int] = []

    def notify(number: int) -> None:
        results.append(service.request("POST", "/notifications", {"notifications": [item(f"waits{number}")]})[0])

    threads = [threading.Thread(target=notify, args=(number,)) for number in range(12)]
    with sa.create_engine(service.database_url, poolclass=sa.NullPool).connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        for thread in threads:
            thread.start()
        # All have arrived before a later one can be answered.
        waiting = threading.Thread(target=service.request, args=("GET", "/healthz"))
        waiting.start()
        waiting.join(1)
        assert results == []
        connection.exec_driver_sql("ROLLBACK")
    for thread in [*threads, waiting]:
        thread.join(30)
    assert results == [200] * 12
    assert "queue depth" not in service.log.read_text()
