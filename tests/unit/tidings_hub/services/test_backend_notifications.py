"""Notifications of backends on their way to the notification service, and answers that are not results."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from support.network.scripted_server import Peer, ScriptedServer, response
from tidings.errors import Internal, NotFound, UnknownCategory
from tidings.receipts import NotificationReceipt
from tidings.wire.notification import Notification, read_notifications
from tidings.wire.notification_request import read_request
from tidings_hub.config.settings import Settings
from tidings_hub.metrics import Metrics
from tidings_hub.services.backend_notifications import BackendNotifications
from tidings_hub.services.user_inbox import InboxService

SECRET = "kT3xw9LpQ2vB7mZr5cYh8nDs4fGj6aUe"


class Scene:
    """A node's part, and a service that answers with `answer`. `items`: the notifications of the last request."""

    def __init__(self, answer: object) -> None:
        self.items: list[Any] = []
        self.metrics = Metrics()
        self._answer = json.dumps(answer).encode()
        self.server = ScriptedServer(self._script)
        settings = Settings.model_validate({"secret": SECRET, "notifications": {"url": self.server.url}})
        self.inbox = InboxService(settings, self.metrics, wall_s=float)
        self.notifications = BackendNotifications(self.inbox, self.metrics, size=2)

    def _script(self, peer: Peer) -> None:
        while True:
            _, _, body = peer.read_request().partition(b"\r\n\r\n")
            self.items = json.loads(body)["notifications"]
            peer.send(response(self._answer))


@contextmanager
def scene_of(answer: object) -> Iterator[Scene]:
    scene = Scene(answer)
    with scene.server:
        yield scene
        assert scene.inbox.link is not None
        scene.inbox.link.close()


def notifications(**fields: Any) -> list[Notification]:
    return read_request({"category": "order_shipped", "title": "T", **fields}, now_ms=1_764_000_000_000)


def test_notification_of_several_users_is_sent_once_and_has_a_result_for_each() -> None:
    results = [
        {"id": "a", "state": "stored", "duplicate": False},
        {"id": "b", "state": "suppressed", "duplicate": False},
        {"error": {"code": "unknown_category", "message": "no such category"}},
    ]
    with scene_of({"results": results}) as scene:
        for_one, for_several = notifications(user="7", id="a"), notifications(users=["8", "99"], id="b", data={"n": 1})
        handovers = scene.notifications.store([for_one, for_several])
        assert [type(handover) for handover in handovers] == [NotificationReceipt, NotificationReceipt, UnknownCategory]
        assert [item.get("users", item.get("user")) for item in scene.items] == ["7", ["8", "99"]]
        # The service reads what was sent.
        assert [read_notifications(item) for item in scene.items] == [for_one, for_several]
        assert scene.metrics.notifications_handed == {"stored": 1, "suppressed": 1, "unknown_category": 1}


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"results": {}},
        {"results": []},
        {"results": [{"id": "a", "state": "stored", "duplicate": False}] * 2},
        {"results": ["stored"]},
        {"results": [{"id": "a", "state": "stored"}]},
    ],
)
def test_answer_without_a_result_for_each_is_no_receipt(answer: object) -> None:
    with scene_of(answer) as scene, pytest.raises(Internal):
        scene.notifications.store([notifications(user="7")])


def test_hub_without_a_service_says_what_to_set() -> None:
    settings, metrics = Settings.model_validate({"secret": SECRET}), Metrics()
    backend = BackendNotifications(InboxService(settings, metrics, wall_s=float), metrics, size=1)
    with pytest.raises(NotFound, match=r"\[notifications\]"):
        backend.store([notifications(user="7")])
    with pytest.raises(NotFound, match=r"\[notifications\]"):
        backend.delete("7", {"group": "g"})
