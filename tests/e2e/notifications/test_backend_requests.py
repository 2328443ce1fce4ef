"""Notifications of backends over the hub's HTTP API, from the emitter and from any HTTP client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.notification_node import NotificationNode
from support.processes.client import ClientProcess
from support.processes.hub import API_KEY, HubProcess, token
from tidings import Emitter
from tidings.errors import BadConfig, BadRequest, Unavailable, UnknownCategory

GOOD: dict[str, Any] = {"category": "order_shipped", "title": "T"}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NotificationNode]:
    process = NotificationNode(tmp_path_factory.mktemp("node"), extra="publication_max_bytes = 131072\n")
    try:
        yield process.start()
    finally:
        process.stop()


@pytest.fixture
def emitter(node: NotificationNode) -> Iterator[Emitter]:
    with Emitter(node.hub.url, api_key=API_KEY) as emitter:
        yield emitter


def notify(node: NotificationNode, body: object) -> tuple[int, Any]:
    return node.hub.request("POST", "/api/notifications", body)[:2]


def items_of(node: NotificationNode, user: str) -> list[Any]:
    headers = {"Authorization": f"Bearer {token(user)}"}
    return list(node.hub.request("GET", "/inbox?limit=100", headers=headers)[1]["items"])


def test_emitter_over_http_gets_stored_as_its_receipt(
    node: NotificationNode, emitter: Emitter, clients: list[ClientProcess]
) -> None:
    client = ClientProcess("python-websocket", node.hub.url, token=token("ann"), channels=[])
    clients.append(client)
    client.wait_ready()
    fields = {"body": "B\nB", "url": "/orders/1", "icon": "/i.png", "data": {"n": 1}, "group": "g"}
    receipt = emitter.notify("order_shipped", user="ann", title="Ä", id="one", expires_in_s=600, **fields)
    assert (receipt.id, receipt.state, receipt.duplicate) == ("one", "stored", False)
    assert emitter.notify("order_shipped", user="ann", title="Ä", id="one").duplicate
    (item,) = items_of(node, "ann")
    assert fields | {"title": "Ä", "category": "order_shipped"} == {
        name: item[name] for name in (*fields, "title", "category")
    }
    assert item["expires_at"] > item["created_at"]
    client.wait(lambda self: self.records_of("notification"), why="the event")
    with pytest.raises(UnknownCategory):
        emitter.notify("order_lost", user="ann", title="T")


def test_emitter_notifies_many_users(node: NotificationNode, emitter: Emitter) -> None:
    users = [f"many-{number}" for number in range(250)]
    receipts = emitter.notify("order_shipped", users=users, title="T", id="many")
    assert [receipt.state for receipt in receipts] == ["stored"] * 250
    assert len(items_of(node, "many-0")) == len(items_of(node, "many-249")) == 1


def test_response_has_the_shape_of_the_request(node: NotificationNode) -> None:
    receipt = {"id": "s", "state": "stored", "duplicate": False}
    assert notify(node, GOOD | {"user": "s1", "id": "s"}) == (200, receipt)
    assert notify(node, GOOD | {"users": ["s2", "s3", "s2"], "id": "s"}) == (200, {"results": [receipt, receipt]})
    status, answer = notify(
        node,
        [
            GOOD | {"user": "s4", "id": "s"},
            GOOD | {"user": "s4", "id": "t", "url": "javascript:alert(1)"},
            GOOD | {"users": ["s5"], "id": "s"},
            GOOD | {"user": "s4", "id": "u", "category": "order_lost"},
            "no notification",
        ],
    )
    assert status == 200
    first, second, third, fourth, fifth = answer["results"]
    assert (first, third) == (receipt, {"results": [receipt]})
    assert [item["error"]["code"] for item in (second, fourth, fifth)] == [
        "bad_request",
        "unknown_category",
        "bad_request",
    ]
    assert len(items_of(node, "s4")) == 1


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (GOOD | {"user": "7", "title": ""}, 400, "bad_request"),
        (GOOD | {"user": "7", "users": ["8"]}, 400, "bad_request"),
        (GOOD, 400, "bad_request"),
        (GOOD | {"user": "a b"}, 400, "bad_channel"),
        (GOOD | {"user": "7", "id": "a b"}, 400, "bad_id"),
        (GOOD | {"user": "7", "at_ms": 1}, 400, "bad_request"),
        (GOOD | {"user": "7", "category": "order_lost"}, 404, "unknown_category"),
        (GOOD | {"user": "7", "data": "x" * 140_000}, 413, "too_large"),
        (GOOD | {"users": [f"u{number}" for number in range(1_001)]}, 413, "too_large"),
        ([GOOD | {"users": [f"u{number}" for number in range(600)]}] * 2, 413, "too_large"),
        ([GOOD | {"user": "7"}] * 101, 413, "too_large"),
        ([], 400, "bad_request"),
        ("text", 400, "bad_request"),
    ],
)
def test_wrong_request_is_refused(node: NotificationNode, body: object, status: int, code: str) -> None:
    answered, answer = notify(node, body)
    assert (answered, answer["error"]["code"]) == (status, code)
    assert answer["error"]["message"]


def test_large_notification_for_a_thousand_users_is_one_request_to_the_service(node: NotificationNode) -> None:
    users = [f"large-{number}" for number in range(1_000)]
    # A thousand copies would be far beyond `request_max_bytes` of the service.
    status, answer = notify(node, GOOD | {"users": users, "data": "x" * 60_000})
    assert (status, {result["state"] for result in answer["results"]}) == (200, {"stored"})
    (item,) = items_of(node, "large-999")
    assert item["data"] == "x" * 60_000


def test_backend_deletes_notifications_of_a_user(node: NotificationNode) -> None:
    for number in range(3):
        notify(node, GOOD | {"user": "del", "id": f"d{number}"})
    notify(node, GOOD | {"user": "del", "id": "d3", "group": "order:42"})
    status, answer, _ = node.hub.request("POST", "/api/users/del/notifications/delete", {"ids": ["d0", "nothing"]})
    assert (status, answer["count"], answer["unknown"]) == (200, 1, ["nothing"])
    status, answer, _ = node.hub.request("POST", "/api/users/del/notifications/delete", {"group": "order:42"})
    assert (status, answer["count"], answer["counts"]) == (200, 1, {"unseen": 2, "unread": 2})
    assert len(items_of(node, "del")) == 2
    status, answer, _ = node.hub.request("POST", "/api/users/del/notifications/delete", {})
    assert (status, answer["error"]["message"]) == (400, "ids and group are missing; give one of them")
    for body in ({"ids": []}, {"ids": ["a"], "group": "g"}, {"ids": [1]}, {"user": "x", "group": "g"}):
        assert node.hub.request("POST", "/api/users/del/notifications/delete", body)[0] == 400


def test_notifications_need_an_api_key(node: NotificationNode) -> None:
    for path in ("/api/notifications", "/api/users/7/notifications/delete"):
        headers = {"Authorization": f"Bearer {token('ann')}"}
        assert node.hub.request("POST", path, GOOD | {"user": "7"}, headers)[0] == 401


def test_service_that_is_away_is_unavailable_until_it_is_back(tmp_path: Path) -> None:
    node = NotificationNode(tmp_path)
    try:
        node.start()
        node.service.kill()
        with Emitter(node.hub.url, api_key=API_KEY, timeout_s=1.0) as emitter:
            with pytest.raises(Unavailable):
                emitter.notify("order_shipped", user="7", title="T", id="away")
            with pytest.raises(BadRequest):
                emitter.notify("order_shipped", user="7", title="")
        node.service.start()
        with Emitter(node.hub.url, api_key=API_KEY, timeout_s=20.0) as emitter:
            assert emitter.notify("order_shipped", user="7", title="T", id="away").state == "stored"
    finally:
        node.stop()


def test_hub_without_notifications_says_what_to_set(tmp_path: Path) -> None:
    hub = HubProcess(tmp_path)
    try:
        hub.start()
        status, answer, _ = hub.request("POST", "/api/notifications", GOOD | {"user": "7"})
        assert (status, answer["error"]["code"]) == (404, "not_found")
        assert "[notifications]" in answer["error"]["message"]
        with Emitter(hub.url, api_key=API_KEY) as emitter, pytest.raises(BadConfig, match=r"\[notifications\]"):
            emitter.notify("order_shipped", user="7", title="T")
    finally:
        hub.stop()
