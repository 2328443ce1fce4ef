"""What is wrong gets an error with a code, through a real hub and service; nothing is lost or shown to others."""

from __future__ import annotations

import resource
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from support.network.push_service import Browser
from support.notification_node import NOW_MS, NotificationNode
from support.notification_scene import NotificationScene
from support.processes.client import ClientProcess
from support.processes.hub import token
from support.waiting import wait_until
from tidings_notifications.store.schema import VERSION_TABLE
from tidings_notifications.web_push.vapid import VapidKey

GOOD: dict[str, Any] = {"category": "order_shipped", "user": "ann", "title": "T"}
UNKNOWN_ID = "0192f0c1-2345-7abc-8def-0123456789ab"


def web_push(key_file: Path) -> str:
    return f'[notifications.web_push]\nvapid_key_file = "{key_file}"\ncontact = "mailto:ops@shop.example"'


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NotificationNode]:
    folder = tmp_path_factory.mktemp("node")
    VapidKey.create(folder / "vapid.pem")
    process = NotificationNode(folder, options=web_push(folder / "vapid.pem"))
    try:
        yield process.start()
    finally:
        process.stop()


def ask(node: NotificationNode, user: str, method: str, path: str, body: object = None) -> tuple[int, Any]:
    """A request of a user."""
    return node.hub.request(method, path, body, headers={"Authorization": f"Bearer {token(user)}"})[:2]


def items_of(node: NotificationNode, user: str) -> list[Any]:
    return list(ask(node, user, "GET", "/inbox")[1]["items"])


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"category": "unheard_of"}, 404, "unknown_category"),
        ({"category": None}, 400, None),
        ({"title": None}, 400, "bad_request"),
        ({"title": " "}, 400, "bad_request"),
        ({"title": 7}, 400, "bad_request"),
        ({"title": "x" * 201}, 413, "too_large"),
        ({"body": "x" * 2_001}, 413, "too_large"),
        ({"url": "JavaScript:alert(1)"}, 400, "bad_request"),
        ({"url": "data:text/html,x"}, 400, "bad_request"),
        ({"url": "//evil.example"}, 400, "bad_request"),
        ({"icon": "javascript:alert(1)"}, 400, "bad_request"),
        ({"icon": "data:image/svg+xml,x"}, 400, "bad_request"),
        ({"unheard_of": 1}, 400, "bad_request"),
    ],
)
def test_wrong_notification_is_stored_for_nobody(
    node: NotificationNode, change: dict[str, Any], status: int, code: str | None
) -> None:
    user = secrets.token_hex(4)
    item = {name: value for name, value in (GOOD | {"user": user} | change).items() if value is not None}
    answered, answer, _ = node.hub.request("POST", "/api/notifications", item)
    assert (answered, code or answer["error"]["code"]) == (status, answer["error"]["code"]), answer
    assert answer["error"]["message"]
    assert items_of(node, user) == []


def test_html_is_kept_as_text(node: NotificationNode, clients: list[ClientProcess]) -> None:
    client = ClientProcess("python-websocket", node.hub.url, token=token("html"), channels=[])
    clients.append(client)
    client.wait_ready()
    texts = {"title": '<img src=x onerror="alert(1)">', "body": "</script><script>alert(1)</script>&amp;"}
    assert node.hub.request("POST", "/api/notifications", GOOD | {"user": "html"} | texts)[0] == 200
    (item,) = items_of(node, "html")
    client.wait(lambda self: self.records_of("notification"), why="the event")
    for shown in (item, client.records_of("notification")[0]["item"]):
        assert {name: shown[name] for name in texts} == texts


@pytest.mark.parametrize("action", ["seen", "read", "unread", "archive", "unarchive"])
def test_foreign_id_is_marked_and_deleted_like_an_unknown_one(
    node: NotificationNode, clients: list[ClientProcess], action: str
) -> None:
    owner, other = f"owner-{action}", f"other-{action}"
    node.store(owner, "mine")
    before = items_of(node, owner)
    owner_page = ClientProcess("python-websocket", node.hub.url, token=token(owner), channels=[])
    other_page = ClientProcess("python-websocket", node.hub.url, token=token(other), channels=[])
    clients += [owner_page, other_page]
    owner_page.wait_ready()
    other_page.wait_ready()
    ids = [before[0]["id"], UNKNOWN_ID]
    mark = {"action": action, "ids": ids}
    nothing = {"count": 0, "changed": [], "unknown": ids, "counts": {"unseen": 0, "unread": 0}, "version": 0}
    assert ask(node, other, "POST", "/inbox/mark", mark) == (200, nothing)
    assert other_page.request("tidings:inbox_mark", mark) == nothing
    path = f"/api/users/{other}/notifications/delete"
    status, answer, _ = node.hub.request("POST", path, {"ids": [*ids, "mine"]})
    assert (status, answer["count"], answer["unknown"]) == (200, 0, [*ids, "mine"])
    assert items_of(node, owner) == before
    # What comes after it proves that no event of these requests reached the owner.
    node.store(owner, "next")
    owner_page.wait(lambda self: self.records_of("notification"), why="the next notification")
    assert (
        owner_page.records_of("inbox") == other_page.records_of("notification") == other_page.records_of("inbox") == []
    )


def test_thousand_and_one_ids_change_nothing(node: NotificationNode, clients: list[ClientProcess]) -> None:
    node.store("many", "mine")
    (item,) = items_of(node, "many")
    ids = [item["id"], *(f"{number:08x}{UNKNOWN_ID[8:]}" for number in range(1_000))]
    client = ClientProcess("python-websocket", node.hub.url, token=token("many"), channels=[])
    clients.append(client)
    client.wait_ready()
    mark = {"action": "read", "ids": ids}
    answers = [
        ask(node, "many", "POST", "/inbox/mark", mark)[1],
        client.request("tidings:inbox_mark", mark),
        node.hub.request("POST", "/api/users/many/notifications/delete", {"ids": ids})[1],
    ]
    assert [answer["error"]["code"] for answer in answers] == ["too_large"] * 3
    assert items_of(node, "many") == [item]
    # A thousand are one request.
    assert ask(node, "many", "POST", "/inbox/mark", mark | {"ids": ids[:1_000]})[1]["count"] == 1


@pytest.mark.parametrize(
    "endpoint",
    [
        *(
            "https://127.0.0.1/x",
            "https://[::1]/x",
            "https://10.0.0.1/x",
            "https://169.254.169.254/latest",
            "https://0/x",
        ),
        *("https://localhost/x", "https://2130706433/x", "https://fcm.googleapis.com@127.0.0.1/x"),
        *(
            "https://fcm.googleapis.com.evil.example/x",
            "https://fcm.googleapis.com:22/x",
            "http://fcm.googleapis.com/x",
        ),
        *("file:///etc/passwd", "https://fcm.googleapis.com/\r\nX: y", "https://fcm.googleapis.com/" + "x" * 3_000),
    ],
)
def test_forged_push_endpoint_is_refused(node: NotificationNode, clients: list[ClientProcess], endpoint: str) -> None:
    subscription = Browser(endpoint).to_json()
    status, answer = ask(node, "eve", "POST", "/inbox/push-subscriptions", {"subscription": subscription})
    assert (status, answer["error"]["code"]) == (400, "bad_request")
    good = Browser(f"https://fcm.googleapis.com/fcm/send/{secrets.token_hex(4)}").to_json()
    stored = ask(node, "eve", "POST", "/inbox/push-subscriptions", {"subscription": good})[1]
    # A renewal is no way around the rule.
    path = "/inbox/push-subscriptions/renew"
    status, answer, _ = node.hub.request("POST", path, stored | {"subscription": subscription}, {"Authorization": ""})
    assert (status, answer["error"]["code"]) == (400, "bad_request")


@pytest.mark.parametrize(
    "content", [b"", b"not a key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_broken_vapid_key_stops_the_service_with_the_name_of_the_file(tmp_path: Path, content: bytes) -> None:
    key_file = tmp_path / "vapid.pem"
    key_file.write_bytes(content)
    process = NotificationNode(tmp_path, options=web_push(key_file))
    try:
        process.service.start(ready=False)
        assert process.service.wait() == 2
        log = process.service.log.read_text()
        assert str(key_file) in log
        assert "Traceback" not in log
        assert key_file.read_bytes() == content
    finally:
        process.stop()


def test_database_of_a_newer_version_stops_the_service_and_keeps_its_rows(tmp_path: Path) -> None:
    process = NotificationNode(tmp_path)
    try:
        process.start()
        process.store("ann", "kept")
        assert process.service.terminate() == 0
        with process.database.engine().begin() as connection:
            version = connection.scalar(sa.text(f"SELECT version_num FROM {VERSION_TABLE}"))
            connection.execute(sa.text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
        process.service.start(ready=False)
        assert process.service.wait() == 2
        log = process.service.log.read_text()
        assert "9999" in log
        assert "install the newer version of tidings" in log
        assert "Traceback" not in log
        status, answer = ask(process, "ann", "GET", "/inbox")
        assert (status, answer["error"]["code"]) == (503, "unavailable")
        with process.database.engine().begin() as connection:
            connection.execute(sa.text(f"UPDATE {VERSION_TABLE} SET version_num = '{version}'"))
        process.service.stop()
        process.service.start()
        wait_until(lambda: ask(process, "ann", "GET", "/inbox")[0] == 200, why="the hub finds the service")
        assert len(items_of(process, "ann")) == 1
    finally:
        process.stop()


def test_full_database_is_unavailable_and_what_redis_has_is_stored_when_there_is_room(
    make_scene: Callable[[str], NotificationScene],
) -> None:
    scene = make_scene("sqlite")
    item = GOOD | {"id": "over_http", "at_ms": NOW_MS, "body": "x" * 2_000, "data": "y" * 60_000}
    page = scene.client("7")
    scene.notify("7", "before")
    scene.wait_idle()
    sizes = [file.stat().st_size for file in scene.database.folder.iterdir()]
    unlimited = resource.prlimit(scene.service.pid, resource.RLIMIT_FSIZE)
    # No file of the service can grow much. Its log stays far below.
    resource.prlimit(scene.service.pid, resource.RLIMIT_FSIZE, (max(sizes) + 20_000, unlimited[1]))
    status, answer = scene.service.request("POST", "/notifications", {"notifications": [item]})
    assert (status, answer["error"]["code"]) == (503, "unavailable")
    scene.emitter.notify("order_shipped", user="7", title="Title of waits", id="waits", data="y" * 60_000)
    wait_until(lambda: scene.service.metric("tidings_notifications_database_errors_total") >= 2, why="the second one")
    assert (scene.rows(), scene.waiting()) == ({"before": 1}, 1)
    # What is stored can still be read.
    assert len(scene.service.request("GET", "/inbox?user=7")[1]["items"]) == 1
    resource.prlimit(scene.service.pid, resource.RLIMIT_FSIZE, unlimited)
    scene.wait_idle()
    scene.check_stored(["before", "waits"])
    scene.check_received(page, ["before", "waits"])
