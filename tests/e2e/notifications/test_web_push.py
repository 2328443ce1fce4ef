"""What its user does not see is pushed: real hub, real service, and a push service that decrypts as browsers do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.network.certificates import Authority
from support.network.push_service import Answer, Browser, PushService
from support.notification_node import NOW_MS, NotificationNode
from support.processes.hub import token
from support.waiting import wait_until
from tidings_notifications.web_push.vapid import VapidKey

PUSH_CATEGORIES = """
[notifications.categories.chat]
web_push = "always"
urgency = "high"
[notifications.categories.order_late]
web_push = "unseen"
push_after_s = 2
"""


@pytest.fixture
def push_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PushService]:
    authority = Authority.make(tmp_path / "authority")
    # The variable of OpenSSL: the service trusts what the system trusts.
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    with PushService(authority) as service:
        yield service


@pytest.fixture
def node(tmp_path: Path, push_service: PushService) -> Iterator[NotificationNode]:
    key_file = tmp_path / "vapid.pem"
    VapidKey.create(key_file)
    options = f"""[notifications.web_push]
vapid_key_file = "{key_file}"
contact = "mailto:ops@shop.example"
hosts = ["{push_service.host}"]
allow_private = true
timeout_s = 2
{PUSH_CATEGORIES}"""
    process = NotificationNode(tmp_path, options=options)
    try:
        yield process.start()
    finally:
        process.stop()


def subscribe(node: NotificationNode, browser: Browser, user: str) -> None:
    headers = {"Authorization": f"Bearer {token(user)}"}
    body = {"subscription": browser.to_json()}
    # The node answers 503 until it has noticed that the service has started.
    wait_until(lambda: node.hub.request("POST", "/inbox/push-subscriptions", body, headers=headers)[0] == 200)


def notify(node: NotificationNode, user: str, id_: str, **more: object) -> None:
    item = {"user": user, "id": id_, "title": f"Title of {id_}", "at_ms": NOW_MS} | more
    status, answer = node.service.request("POST", "/notifications", {"notifications": [item]})
    assert (status, "error" in answer["results"][0]) == (200, False), answer


def wait_titles(push_service: PushService, titles: list[str]) -> None:
    def received() -> list[str]:
        return sorted(str(message["title"]) for message in push_service.messages())

    wait_until(lambda: received() == sorted(titles), within_s=40, why=lambda: f"{titles}, not {received()}")


def test_push_arrives_in_each_browser_of_the_user(node: NotificationNode, push_service: PushService) -> None:
    for user in ("7", "7", "8"):
        subscribe(node, push_service.subscribe(), user)
    notify(node, "7", "a", category="chat", body="Hello", url="/chat/1", group="room", data={"room": 1})
    wait_titles(push_service, ["Title of a", "Title of a"])
    message = push_service.messages()[0]
    assert message.pop("id")
    assert message.pop("created_at") > NOW_MS
    assert message == {
        "category": "chat",
        "title": "Title of a",
        "body": "Hello",
        "url": "/chat/1",
        "tag": "room",
        "data": {"room": 1},
        "count": 1,
        "counts": {"unseen": 1, "unread": 1},
    }
    headers = push_service.received[0].headers
    assert headers["Urgency"] == "high"
    assert len(headers["Topic"]) == 32


def test_what_was_seen_in_time_is_not_pushed(node: NotificationNode, push_service: PushService) -> None:
    subscribe(node, push_service.subscribe(), "7")
    notify(node, "7", "seen", category="order_late")
    seen = {"user": "7", "action": "seen", "all": True}
    assert node.service.request("POST", "/inbox/mark", seen)[1]["count"] == 1
    notify(node, "7", "unseen", category="order_late")
    wait_titles(push_service, ["Title of unseen"])
    wait_until(lambda: node.service.metric("tidings_notifications_deliveries_total") >= 2)
    wait_titles(push_service, ["Title of unseen"])


def test_push_is_tried_again_and_a_gone_subscription_is_deleted(
    node: NotificationNode, push_service: PushService
) -> None:
    answers = {"/send/flaky": [503, 201], "/send/gone": [410, 410]}
    push_service.answer = lambda path: Answer(status=answers[path].pop(0))
    for name in ("flaky", "gone"):
        subscribe(node, push_service.subscribe(name), "7")
    notify(node, "7", "a", category="chat")
    wait_titles(push_service, ["Title of a"] * 4)
    assert sorted(push.path for push in push_service.received) == ["/send/flaky"] * 2 + ["/send/gone"] * 2
    answers["/send/flaky"].append(201)
    notify(node, "7", "b", category="chat")
    wait_titles(push_service, ["Title of a"] * 4 + ["Title of b"])


def test_killed_service_pushes_after_its_restart(node: NotificationNode, push_service: PushService) -> None:
    subscribe(node, push_service.subscribe(), "7")
    notify(node, "7", "a", category="order_late")
    node.service.kill()
    assert push_service.received == []
    node.service.start()
    wait_titles(push_service, ["Title of a"])


def test_drain_postpones_a_push_that_hangs(node: NotificationNode, push_service: PushService) -> None:
    event = push_service.event()
    push_service.answer = lambda _path: Answer(until=event)
    subscribe(node, push_service.subscribe(), "7")
    notify(node, "7", "a", category="chat")
    wait_titles(push_service, ["Title of a"])
    assert node.service.terminate() == 0
    push_service.release(event)
    push_service.answer = lambda _path: Answer()
    node.service.start()
    wait_titles(push_service, ["Title of a"] * 2)
