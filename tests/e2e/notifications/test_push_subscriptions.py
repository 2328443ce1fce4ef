"""Push subscriptions of clients and of service workers, over a real hub and a real service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.network.push_service import Browser
from support.notification_node import NotificationNode
from support.processes.client import ClientProcess
from support.processes.hub import token
from tidings_notifications.web_push.vapid import VapidKey

PATH = "/inbox/push-subscriptions"


def web_push(folder: Path) -> str:
    key_file = folder / "vapid.pem"
    VapidKey.create(key_file)
    return f'[notifications.web_push]\nvapid_key_file = "{key_file}"\ncontact = "mailto:ops@shop.example"'


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NotificationNode]:
    folder = tmp_path_factory.mktemp("node")
    process = NotificationNode(folder, options=web_push(folder))
    try:
        yield process.start()
    finally:
        process.stop()


def browser(name: str) -> dict[str, Any]:
    return Browser(f"https://fcm.googleapis.com/fcm/send/{name}").to_json()


def ask(node: NotificationNode, method: str, path: str, body: object = None, *, user: str = "") -> tuple[int, Any]:
    """A request with the token of a user, or without one."""
    headers = {"Authorization": f"Bearer {token(user)}" if user else ""}
    return node.hub.request(method, path, body, headers=headers)[:2]


@pytest.mark.parametrize("kind", ["python-websocket", "js-websocket"])
def test_client_subscribes_and_unsubscribes(node: NotificationNode, clients: list[ClientProcess], kind: str) -> None:
    client = ClientProcess(kind, node.hub.url, token=token(f"ann-{kind}"), channels=[])
    clients.append(client)
    client.wait_ready()
    key = client.request("tidings:push", {})
    assert key == {"public_key": VapidKey.load(node.hub.config.parent / "vapid.pem").public_key}
    subscription = browser(kind)
    first = client.request("tidings:push", {"subscription": subscription})
    again = client.request("tidings:push", {"subscription": subscription})
    assert first["id"] == again["id"]
    assert first["key"] != again["key"]
    unsubscribe = {"unsubscribe": subscription["endpoint"]}
    assert client.request("tidings:push", unsubscribe) == {"deleted": 1}
    assert client.request("tidings:push", unsubscribe) == {"deleted": 0}


def test_service_worker_renews_and_marks_without_a_token(node: NotificationNode) -> None:
    node.store("bob", "pushed")
    status, stored = ask(node, "POST", PATH, {"subscription": browser("bob")}, user="bob")
    assert status == 200
    renewal = stored | {"subscription": browser("bob renewed".replace(" ", "-"))}
    assert ask(node, "POST", f"{PATH}/renew", renewal) == (200, {"id": stored["id"]})
    (item,) = ask(node, "GET", "/inbox", user="bob")[1]["items"]
    status, marked = ask(node, "POST", f"{PATH}/mark", stored | {"action": "read", "ids": [item["id"]]})
    assert (status, marked["count"], marked["counts"]) == (200, 1, {"unseen": 0, "unread": 0})
    (item,) = ask(node, "GET", "/inbox", user="bob")[1]["items"]
    assert item["read_at"] is not None


def test_key_of_a_subscription_is_good_for_nothing_else(node: NotificationNode) -> None:
    node.store("eve", "hers")
    node.store("dan", "his")
    eve = ask(node, "POST", PATH, {"subscription": browser("eve")}, user="eve")[1]
    dan = ask(node, "POST", PATH, {"subscription": browser("dan")}, user="dan")[1]
    (his,) = ask(node, "GET", "/inbox", user="dan")[1]["items"]
    mixed = {"id": dan["id"], "key": eve["key"]}
    assert ask(node, "POST", f"{PATH}/mark", mixed | {"action": "read", "ids": [his["id"]]})[0] == 403
    assert ask(node, "POST", f"{PATH}/renew", mixed | {"subscription": browser("x")})[0] == 403
    # Her own key does not reach his notifications.
    status, marked = ask(node, "POST", f"{PATH}/mark", eve | {"action": "read", "ids": [his["id"]]})
    assert (status, marked["count"], marked["unknown"]) == (200, 0, [his["id"]])
    headers = {"Authorization": f"Bearer {eve['key']}"}
    assert node.hub.request("GET", "/inbox", headers=headers)[0] == 401
    assert ask(node, "GET", "/inbox", user="dan")[1]["items"][0]["read_at"] is None


@pytest.mark.parametrize(
    "subscription",
    [
        *(None, [], "x", {}, {"endpoint": "https://fcm.googleapis.com/x"}),
        browser("x") | {"endpoint": "https://evil.example/x"},
        browser("x") | {"endpoint": "http://fcm.googleapis.com/x"},
        browser("x") | {"expirationTime": "soon"},
        browser("x") | {"keys": {"p256dh": "x", "auth": "y"}},
    ],
)
def test_wrong_subscription_is_a_bad_request(node: NotificationNode, subscription: object) -> None:
    status, answer = ask(node, "POST", PATH, {"subscription": subscription}, user="fay")
    assert (status, answer["error"]["code"]) == (400, "bad_request")


def test_padded_keys_and_fields_of_later_standards_are_accepted(node: NotificationNode) -> None:
    padded = Browser("https://updates.push.services.mozilla.com/wpush/v2/x").to_json(padded=True)
    status, _ = ask(node, "POST", PATH, {"subscription": padded | {"newField": 1}}, user="gil")
    assert status == 200


def test_every_address_but_those_of_workers_needs_a_token(node: NotificationNode) -> None:
    assert ask(node, "GET", "/inbox/push-key")[0] == 401
    assert ask(node, "POST", PATH, {"subscription": browser("x")})[0] == 401
    assert ask(node, "DELETE", PATH, {"endpoint": "x"})[0] == 401
    worker = {"id": "0" * 32, "key": "k", "action": "read", "ids": []}
    assert ask(node, "POST", f"{PATH}/mark", worker)[0] == 403


def test_hub_without_web_push_says_what_to_set(tmp_path: Path) -> None:
    plain = NotificationNode(tmp_path)
    try:
        plain.start()
        for method, path, body in (
            ("GET", "/inbox/push-key", None),
            ("POST", PATH, {"subscription": browser("x")}),
            ("DELETE", PATH, {"endpoint": "x"}),
        ):
            status, answer = ask(plain, method, path, body, user="ann")
            assert (status, answer["error"]["code"]) == (404, "not_found")
            assert "[notifications.web_push]" in answer["error"]["message"]
    finally:
        plain.stop()


def test_service_does_not_start_without_its_key(tmp_path: Path) -> None:
    options = f'[notifications.web_push]\nvapid_key_file = "{tmp_path}/none.pem"\ncontact = "mailto:ops@shop.example"'
    lacking = NotificationNode(tmp_path, options=options)
    try:
        lacking.service.start(ready=False)
        assert lacking.service.wait() == 2
        assert "tidings vapid" in lacking.service.log.read_text()
    finally:
        lacking.stop()
