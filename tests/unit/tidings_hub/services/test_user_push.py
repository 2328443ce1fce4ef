"""What a node sends to the notification service for Web Push, and what it refuses by itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from support.network.scripted_server import Peer, ScriptedServer, response
from tidings.errors import BadRequest, Forbidden, NotFound, TidingsError, TooFast
from tidings.tokens import Claims
from tidings_hub.config.settings import Settings
from tidings_hub.metrics import Metrics
from tidings_hub.services.user_inbox import InboxService
from tidings_hub.services.user_push import UserPush

SECRET = "kT3xw9LpQ2vB7mZr5cYh8nDs4fGj6aUe"
ANN = Claims(sub="ann", expires_at_s=2_000_000_000.0)
PATH = "/inbox/push-subscriptions"


class Node:
    """A node's part and a service that answers `{}`. `requests`: method, target and body of each request."""

    def __init__(self, server: ScriptedServer, requests: list[tuple[str, str, Any]]) -> None:
        self.server, self.requests = server, requests
        self.inboxes: list[InboxService] = []

    def push(self, *, dev: bool = False, **options: Any) -> UserPush:
        table = {"url": self.server.url, **options}
        settings = Settings.model_validate({"secret": SECRET, "dev": dev, "notifications": table})
        self.inboxes.append(InboxService(settings, Metrics(), wall_s=lambda: 0.0))
        return UserPush(self.inboxes[-1])


@pytest.fixture
def node() -> Iterator[Node]:
    requests: list[tuple[str, str, Any]] = []

    def script(peer: Peer) -> None:
        while True:
            head, _, body = peer.read_request().partition(b"\r\n\r\n")
            method, target, _ = head.split(b"\r\n")[0].decode().split(" ")
            requests.append((method, target, json.loads(body) if body else None))
            peer.send(response(b"{}"))

    with ScriptedServer(script) as server:
        started = Node(server, requests)
        yield started
        for inbox in started.inboxes:
            assert inbox.link is not None
            inbox.link.close()


def test_user_is_the_tokens(node: Node) -> None:
    push = node.push()
    push.request(ANN, {})
    push.request(ANN, {"subscription": {"endpoint": "e"}})
    push.request(ANN, {"unsubscribe": "e"})
    assert node.requests == [
        ("GET", "/inbox/push-key", None),
        ("POST", PATH, {"subscription": {"endpoint": "e"}, "user": "ann"}),
        ("DELETE", PATH, {"endpoint": "e", "user": "ann"}),
    ]


@pytest.mark.parametrize(
    "fields",
    [
        {"subscription": {}, "user": "eve"},
        {"unsubscribe": "e", "user": "eve"},
        {"subscription": {}, "unsubscribe": "e"},
        {"endpoint": "e"},
        {"user": "eve"},
    ],
)
def test_other_fields_are_refused(node: Node, fields: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        node.push().request(ANN, fields)
    assert node.requests == []


def test_service_worker_sends_the_key_of_its_subscription(node: Node) -> None:
    push = node.push()
    renewal = {"id": "1", "key": "k", "subscription": {}}
    mark = {"id": "1", "key": "k", "action": "read", "ids": ["n"]}
    push.renew("10.0.0.1", renewal)
    push.mark("10.0.0.1", mark)
    assert node.requests == [("POST", f"{PATH}/renew", renewal), ("POST", f"{PATH}/mark", mark)]
    for wrong in ({}, mark, renewal | {"user": "eve"}):
        with pytest.raises(BadRequest, match="send id, key, subscription"):
            push.renew("10.0.0.1", wrong)
    assert len(node.requests) == 2


def test_each_address_and_each_user_has_a_rate(node: Node) -> None:
    push = node.push(user_requests_burst=2)
    mark = {"id": "1", "key": "k", "action": "read", "ids": ["n"]}
    for _ in range(2):
        push.mark("10.0.0.1", mark)
        push.request(ANN, {})
    for request in (lambda: push.mark("10.0.0.1", mark), lambda: push.request(ANN, {})):
        with pytest.raises(TooFast):
            request()
    push.mark("10.0.0.2", mark)
    assert len(node.requests) == 5


def test_anonymous_client_cannot_subscribe(node: Node) -> None:
    with pytest.raises(Forbidden):
        node.push(dev=True).request(Claims(sub="anonymous-1a2b3c4d", channels=("*",)), {})


def test_hub_without_a_service_says_what_to_set() -> None:
    push = UserPush(InboxService(Settings.model_validate({"secret": SECRET}), Metrics(), wall_s=float))
    for request in (lambda: push.request(ANN, {}), lambda: push.renew("10.0.0.1", {})):
        with pytest.raises(TidingsError, match=r"\[notifications\]") as caught:
            request()
        assert isinstance(caught.value, NotFound)
