"""What a node sends to the notification service for a client, and what it refuses by itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from support.network.scripted_server import Peer, ScriptedServer, response
from tidings.errors import BadData, BadRequest, Forbidden, NotFound, TooFast
from tidings.tokens import Claims
from tidings_hub.config.settings import Settings
from tidings_hub.metrics import Metrics
from tidings_hub.services.user_inbox import InboxService

SECRET = "kT3xw9LpQ2vB7mZr5cYh8nDs4fGj6aUe"
OTHER_SECRET = "aZ8yP1qW4nC6vX0sR7tB2mK9jH5gF3dL"
ANN = Claims(sub="ann", expires_at_s=2_000_000_000.0)
Request = Callable[[InboxService, Claims, dict[str, Any]], str]


class Service:
    """A notification service that answers `{}`. `requests`: method, target and body of each request."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, Any]] = []
        self.keys: list[bytes] = []
        self._inboxes: list[InboxService] = []
        self.server = ScriptedServer(self._script)

    def _script(self, peer: Peer) -> None:
        while True:
            head, _, body = peer.read_request().partition(b"\r\n\r\n")
            method, target, _ = head.split(b"\r\n")[0].decode().split(" ")
            self.keys += [line for line in head.split(b"\r\n") if line.startswith(b"Authorization")]
            self.requests.append((method, target, json.loads(body) if body else None))
            peer.send(response(b"{}"))

    def inbox(self, *, dev: bool = False, now_s: float = 0.0, **options: Any) -> InboxService:
        """A node's part, with a clock that stands still."""
        table = {"url": self.server.url, **options}
        settings = Settings.model_validate({"secret": SECRET, "dev": dev, "notifications": table})
        inbox = InboxService(settings, Metrics(), wall_s=lambda: now_s)
        self._inboxes.append(inbox)
        return inbox

    def close(self) -> None:
        """Close the connections of all nodes."""
        for inbox in self._inboxes:
            assert inbox.link is not None
            inbox.link.close()


@pytest.fixture
def service() -> Iterator[Service]:
    started = Service()
    with started.server:
        yield started
        started.close()


def test_user_is_the_tokens(service: Service) -> None:
    inbox = service.inbox()
    inbox.page(ANN, {"limit": 5, "unread": True, "archived": False, "category": "a&user=eve", "before": None})
    inbox.mark(ANN, {"action": "read", "ids": ["x"], "all": None})
    inbox.preferences(ANN, {})
    inbox.preferences(ANN, {"category": "a", "method": "in_app", "enabled": False})
    (method, target, _), *others = service.requests
    assert (method, urlsplit(target).path) == ("GET", "/inbox")
    query = parse_qs(urlsplit(target).query)
    assert query.pop("max_bytes") == ["262144"]
    assert query == {
        "user": ["ann"],
        "limit": ["5"],
        "unread": ["true"],
        "archived": ["false"],
        "category": ["a&user=eve"],
    }
    assert others == [
        ("POST", "/inbox/mark", {"user": "ann", "action": "read", "ids": ["x"]}),
        ("GET", "/inbox/preferences?user=ann", None),
        ("PUT", "/inbox/preferences", {"user": "ann", "category": "a", "method": "in_app", "enabled": False}),
    ]


@pytest.mark.parametrize(
    ("request_of", "fields", "error"),
    [
        (InboxService.page, {"user": "eve"}, BadRequest),
        (InboxService.page, {"max_bytes": 1}, BadRequest),
        (InboxService.page, {"limit": [1]}, BadRequest),
        (InboxService.page, {"limit": b"1"}, BadRequest),
        (InboxService.page, {"limit": 10**300}, BadRequest),
        (InboxService.page, {"category": "\ud800"}, BadRequest),
        (InboxService.page, {"before": "x" * 201}, BadRequest),
        (InboxService.mark, {"action": "\ud800", "all": True}, BadData),
        (InboxService.mark, {"user": "eve", "action": "read", "all": True}, BadRequest),
        (InboxService.mark, {"action": "read", "ids": [b"x"]}, BadData),
        (InboxService.preferences, {"user": "eve"}, BadRequest),
    ],
)
def test_other_fields_are_refused(
    service: Service, request_of: Request, fields: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        request_of(service.inbox(), ANN, fields)
    assert service.requests == []


def test_anonymous_client_has_no_inbox(service: Service) -> None:
    inbox = service.inbox(dev=True)
    with pytest.raises(Forbidden, match="anonymous"):
        inbox.page(Claims(sub="anonymous-1a2b3c4d", channels=("*",)), {})
    # A backend may name its users as it likes.
    inbox.page(Claims(sub="anonymous-1a2b3c4d", expires_at_s=2_000_000_000.0), {})
    assert len(service.requests) == 1


def test_each_user_has_a_rate(service: Service) -> None:
    inbox = service.inbox(user_requests_burst=3)
    for _ in range(3):
        inbox.page(ANN, {})
    with pytest.raises(TooFast):
        inbox.mark(ANN, {"action": "read", "all": True})
    inbox.page(Claims(sub="bob", expires_at_s=2_000_000_000.0), {})
    assert len(service.requests) == 4
    unlimited = service.inbox(user_requests_burst=1, user_requests_per_minute=0)
    for _ in range(3):
        unlimited.page(ANN, {})


def test_hub_without_a_service_says_what_to_set() -> None:
    inbox = InboxService(Settings.model_validate({"secret": SECRET}), Metrics(), wall_s=float)
    assert not inbox.has_service
    with pytest.raises(NotFound, match=r"\[notifications\]"):
        inbox.page(ANN, {})


def test_hub_without_a_shared_secret_says_so() -> None:
    settings = Settings.model_validate({"dev": True, "notifications": {"url": "http://127.0.0.1:1"}})
    inbox = InboxService(settings, Metrics(), wall_s=float)
    with pytest.raises(NotFound, match="shared secret"):
        inbox.page(ANN, {})


def test_new_secret_changes_the_key(service: Service) -> None:
    inbox = service.inbox()
    inbox.page(ANN, {})
    inbox.apply_settings(Settings.model_validate({"secret": OTHER_SECRET}))
    inbox.page(ANN, {})
    # Without a secret there is no new key.
    inbox.apply_settings(Settings.model_validate({"dev": True}))
    inbox.page(ANN, {})
    assert service.keys[0] != service.keys[1] == service.keys[2]
