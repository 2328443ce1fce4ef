"""What clients request of their inbox, over Socket.IO and over HTTP, from a real hub and a real service."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.notification_node import NotificationNode
from support.ports import free_port
from support.processes.client import ClientProcess
from support.processes.hub import SECRET, HubProcess, token
from support.processes.redis import RedisProcess

TRANSPORTS = ["python-websocket", "python-polling", "js-websocket"]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NotificationNode]:
    process = NotificationNode(tmp_path_factory.mktemp("node"))
    try:
        yield process.start()
    finally:
        process.stop()


def headers_of(user: str, **more: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token(user)}"} | more


def code_of(answer: Any) -> str:
    assert set(answer) == {"error"}
    assert answer["error"]["message"]
    return str(answer["error"]["code"])


@pytest.mark.parametrize("kind", TRANSPORTS)
def test_client_pages_and_marks_its_inbox(node: NotificationNode, clients: list[ClientProcess], kind: str) -> None:
    user = f"ann-{kind}"
    for number in range(3):
        node.store(user, f"{kind}-{number}", data={"number": number})
    client = ClientProcess(kind, node.hub.url, token=token(user), channels=[])
    clients.append(client)
    client.wait_ready()
    page = client.request("tidings:inbox", {"limit": 2})
    assert [item["data"] for item in page["items"]] == [{"number": 2}, {"number": 1}]
    assert (page["counts"], page["version"]) == ({"unseen": 3, "unread": 3}, 3)
    assert client.request("tidings:inbox", {"limit": 2, "before": page["next"]})["next"] is None
    newest = page["items"][0]["id"]
    marked = client.request("tidings:inbox_mark", {"action": "read", "ids": [newest]})
    assert (marked["count"], marked["counts"], marked["version"]) == (1, {"unseen": 2, "unread": 2}, 4)
    assert [entry["id"] for entry in marked["changed"]] == [newest]
    assert len(client.request("tidings:inbox", {"unread": True})["items"]) == 2
    assert client.request("tidings:inbox_mark", {"action": "seen", "all": True})["counts"]["unseen"] == 0
    client.wait(lambda self: len(self.records_of("inbox")) >= 2, why="the events of the marks")


def test_client_reads_and_sets_preferences(node: NotificationNode, clients: list[ClientProcess]) -> None:
    client = ClientProcess("python-websocket", node.hub.url, token=token("bob"), channels=[])
    clients.append(client)
    client.wait_ready()
    preferences = client.request("tidings:inbox_preferences", {})["preferences"]
    assert {entry["category"] for entry in preferences} == {"order_shipped", "mention", "security"}
    change = {"category": "mention", "method": "in_app", "enabled": False}
    after = client.request("tidings:inbox_preferences", change)["preferences"]
    assert after == client.request("tidings:inbox_preferences", {})["preferences"] != preferences
    required = {"category": "security", "method": "in_app", "enabled": False}
    assert code_of(client.request("tidings:inbox_preferences", required)) == "forbidden"


@pytest.mark.parametrize(
    ("event", "fields"),
    [
        ("tidings:inbox", {"user": "ann"}),
        ("tidings:inbox", {"limit": 0}),
        ("tidings:inbox", {"limit": 101}),
        ("tidings:inbox", {"limit": []}),
        ("tidings:inbox", {"before": "x"}),
        ("tidings:inbox", []),
        ("tidings:inbox", None),
        ("tidings:inbox", {"category": "a&user=ann"}),
        ("tidings:inbox_mark", {"action": "read", "ids": ["x"], "user": "ann"}),
        ("tidings:inbox_mark", {"action": "explode", "ids": ["x"]}),
        ("tidings:inbox_mark", {"action": "read"}),
        ("tidings:inbox_mark", {"action": "read", "ids": ["x"], "all": True}),
        ("tidings:inbox_preferences", {"category": "mention"}),
        ("tidings:inbox_preferences", {"category": "no", "method": "in_app", "enabled": True}),
    ],
)
def test_malformed_request_is_refused(
    node: NotificationNode, clients: list[ClientProcess], event: str, fields: object
) -> None:
    node.store("ann", "secret-of-ann")
    client = ClientProcess("python-websocket", node.hub.url, token=token("mal"), channels=[])
    clients.append(client)
    client.wait_ready()
    answer = client.request(event, fields)
    if "error" in answer:
        assert code_of(answer) in {"bad_request", "unknown_category"}
    else:
        # A category that no notification has.
        assert (event, answer["items"]) == ("tidings:inbox", [])


def test_inbox_over_http_with_the_users_token(node: NotificationNode) -> None:
    node.store("cat", "first", title="First")
    node.store("cat", "second", title="Second")
    headers = headers_of("cat")
    status, page, sent = node.hub.request("GET", "/inbox?limit=1", headers=headers)
    assert (status, [item["title"] for item in page["items"]]) == (200, ["Second"])
    assert sent["cache-control"] == "no-store"
    status, marked, _ = node.hub.request("POST", "/inbox/mark", {"action": "archive", "all": True}, headers)
    assert (status, marked["count"]) == (200, 2)
    assert len(node.hub.request("GET", "/inbox?archived=true", headers=headers)[1]["items"]) == 2
    status, before, _ = node.hub.request("GET", "/inbox/preferences", headers=headers)
    change = {"category": "mention", "method": "in_app", "enabled": False}
    status, after, _ = node.hub.request("PUT", "/inbox/preferences", change, headers)
    assert (status, after != before) == (200, True)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/inbox?user=ann", None, 400, "bad_request"),
        ("GET", "/inbox?limit=1&limit=2", None, 400, "bad_request"),
        ("GET", "/inbox?limit=x", None, 400, "bad_request"),
        ("POST", "/inbox/mark", {"action": "read", "all": True, "user": "ann"}, 400, "bad_request"),
        ("POST", "/inbox/mark?user=ann", {"action": "read", "all": True}, 400, "bad_request"),
        ("POST", "/inbox/mark", b"[]", 400, "bad_request"),
        ("POST", "/inbox/mark", {}, 400, "bad_request"),
        ("PUT", "/inbox/preferences", {"category": "mention"}, 400, "bad_request"),
        ("DELETE", "/inbox", None, 405, "not_allowed"),
        ("GET", "/inbox/nothing", None, 404, "not_found"),
    ],
)
def test_malformed_request_over_http_is_refused(
    node: NotificationNode, method: str, path: str, body: object, status: int, code: str
) -> None:
    answered, answer, _ = node.hub.request(method, path, body, headers_of("cat"))
    assert (answered, code_of(answer)) == (status, code)


def test_inbox_needs_a_valid_token(node: NotificationNode) -> None:
    for headers in ({"Authorization": ""}, {"Authorization": "Bearer x"}):
        status, answer, sent = node.hub.request("GET", "/inbox", headers=headers)
        assert (status, code_of(answer), sent["www-authenticate"]) == (401, "unauthorized", 'Bearer realm="tidings"')


def test_pages_of_allowed_origins_may_request_the_inbox(node: NotificationNode) -> None:
    origin = {"Origin": "https://shop.example"}
    status, _, sent = node.hub.request(
        "OPTIONS",
        "/inbox/preferences",
        headers=origin | {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "authorization"},
    )
    assert (status, sent["access-control-allow-origin"]) == (204, "https://shop.example")
    assert "PUT" in sent["access-control-allow-methods"]
    assert sent["access-control-allow-headers"] == "authorization"
    status, _, sent = node.hub.request("GET", "/inbox", headers=headers_of("cat", **origin))
    assert (status, sent["access-control-allow-origin"], sent["vary"]) == (200, "https://shop.example", "Origin")
    status, answer, _ = node.hub.request("GET", "/inbox", headers=headers_of("cat", Origin="https://evil.example"))
    assert (status, code_of(answer)) == (403, "bad_origin")


def test_page_ends_before_it_is_too_large_for_a_connection(node: NotificationNode) -> None:
    for number in range(8):
        node.store("dan", f"large-{number}", data="x" * 50_000)
    numbers, before = 0, ""
    while True:
        status, page, _ = node.hub.request("GET", f"/inbox?limit=100{before}", headers=headers_of("dan"))
        assert (status, 1 <= len(page["items"]) <= 5) == (200, True)
        numbers += len(page["items"])
        if page["next"] is None:
            break
        before = f"&before={page['next']}"
    assert numbers == 8


def test_hub_without_notifications_says_what_to_set(tmp_path: Path, clients: list[ClientProcess]) -> None:
    hub = HubProcess(tmp_path)
    try:
        hub.start()
        client = ClientProcess("python-websocket", hub.url, token=token("ann"), channels=[])
        clients.append(client)
        client.wait_ready()
        answers = [client.request(event, {}) for event in ("tidings:inbox", "tidings:inbox_preferences")]
        answers.append(hub.request("GET", "/inbox", headers=headers_of("ann"))[1])
        for answer in answers:
            assert code_of(answer) == "not_found"
            assert "[notifications]" in answer["error"]["message"]
    finally:
        hub.stop()


def test_anonymous_client_has_no_inbox(tmp_path: Path, clients: list[ClientProcess]) -> None:
    # `--dev` reads no settings file of a test, but the same settings from the environment.
    table = json.dumps({"url": f"http://127.0.0.1:{free_port()}"})
    hub = HubProcess(tmp_path, "--dev")
    hub.environment = {"TIDINGS_SECRET": SECRET, "TIDINGS_NOTIFICATIONS": table}
    try:
        hub.start()
        anonymous = ClientProcess("python-websocket", hub.url, channels=["a:1"])
        user = ClientProcess("python-websocket", hub.url, token=token("ann"), channels=["a:1"])
        clients += [anonymous, user]
        assert code_of(anonymous.wait_ready().request("tidings:inbox", {})) == "forbidden"
        status, answer, _ = hub.request("GET", "/inbox", headers={"Authorization": ""})
        assert (status, code_of(answer)) == (403, "forbidden")
        assert code_of(user.wait_ready().request("tidings:inbox", {})) == "unavailable"
    finally:
        hub.stop()


def test_each_worker_serves_inboxes(tmp_path: Path, redis: RedisProcess, clients: list[ClientProcess]) -> None:
    node = NotificationNode(tmp_path, extra=f'broker = "{redis.url}"\nworkers = 2\n')
    try:
        node.start()
        node.store("ann", "first")
        for number in range(6):
            client = ClientProcess("python-websocket", node.hub.url, token=token("ann"), channels=[])
            clients.append(client)
            page = client.wait_ready().request("tidings:inbox", {})
            assert len(page["items"]) == 1, number
            assert node.hub.request("GET", "/inbox", headers=headers_of("ann"))[0] == 200
        marked = clients[0].request("tidings:inbox_mark", {"action": "seen", "all": True})
        for client in clients:
            client.wait(lambda self: self.records_of("inbox"), why="the mark on every connection")
        assert marked["counts"] == {"unseen": 0, "unread": 1}
    finally:
        node.stop()
