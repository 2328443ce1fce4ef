"""Notifications of a queue on their way to the service: order, pauses, refusals, and a connection that breaks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

import pytest

from support.waiting import wait_until
from tidings.errors import Internal, NotFound, TidingsError, TooLarge, Unavailable, UnknownCategory
from tidings.receipts import NotificationReceipt
from tidings.wire.notification import Notification
from tidings.wire.notification_request import read_request
from tidings_hub.core.queues.queue_intake import QueuedNotification
from tidings_hub.ingress.notification_handover import NotificationHandover
from tidings_hub.metrics import Metrics
from tidings_hub.services.backend_notifications import Handover


def queued(id_: str, *, category: str = "a") -> QueuedNotification:
    (notification,) = read_request({"category": category, "user": "7", "title": "T", "id": id_}, now_ms=1)
    return QueuedNotification(notification, b"n1 " + notification.encode())


class Service:
    """What stores notifications. `requests`: the ids of each request. While `error` is set, requests fail with it."""

    def __init__(self) -> None:
        self.requests: list[list[str]] = []
        self.error: TidingsError | None = None
        self.items_max = 1_000
        self.poison = ""
        self.may_answer = threading.Event()
        self.may_answer.set()

    def store(self, groups: Sequence[Sequence[Notification]]) -> list[Handover]:
        items = [item for group in groups for item in group]
        self.requests.append([item.id for item in items])
        self.may_answer.wait(30)
        if self.error is not None:
            raise self.error
        if self.poison in {item.id for item in items}:
            raise Internal
        if len(items) > self.items_max:
            raise TooLarge("more than request_max_bytes")
        return [NotificationReceipt(item.id, "stored") if item.category == "a" else UnknownCategory() for item in items]


@pytest.fixture
def service() -> Service:
    return Service()


Make = Callable[[], NotificationHandover]


@pytest.fixture
def handover(service: Service) -> Iterator[NotificationHandover]:
    running = NotificationHandover("main", service.store, Metrics())
    running.start()
    yield running
    service.may_answer.set()
    running.stop(20)


def outcomes_of(handover: NotificationHandover, count: int) -> list[tuple[str, str]]:
    """The first `count` outcomes: the message, and `stored` or the code of the error."""
    outcomes: list[tuple[str, str]] = []

    def has_all() -> bool:
        for message, outcome in handover.pop_outcomes():
            outcomes.append((message, outcome.code.name if isinstance(outcome, TidingsError) else "stored"))
        return len(outcomes) >= count

    wait_until(has_all, why=lambda: f"{count} outcomes, not {outcomes}")
    return outcomes


def test_notifications_are_stored_in_order_and_wrong_ones_rejected(
    service: Service, handover: NotificationHandover
) -> None:
    service.may_answer.clear()
    for number in range(5):
        handover.add(f"m{number}", queued(f"n{number}", category="lost" if number == 3 else "a"))
    service.may_answer.set()
    assert outcomes_of(handover, 5) == [
        ("m0", "stored"),
        ("m1", "stored"),
        ("m2", "stored"),
        ("m3", "unknown_category"),
        ("m4", "stored"),
    ]
    assert len(handover) == 0


def test_notifications_wait_in_order_while_the_service_is_away(
    service: Service, handover: NotificationHandover
) -> None:
    service.error = Unavailable()
    for number in range(3):
        handover.add(f"m{number}", queued(f"n{number}"))
    wait_until(lambda: handover.held_count == 3, why=lambda: f"three wait, not {handover.held_count}")
    assert handover.pop_outcomes() == []
    service.error = None
    assert [message for message, _ in outcomes_of(handover, 3)] == ["m0", "m1", "m2"]


def test_hub_without_inboxes_rejects_all_at_once(service: Service, handover: NotificationHandover) -> None:
    service.error = NotFound("set [notifications]")
    service.may_answer.clear()
    for number in range(3):
        handover.add(f"m{number}", queued(f"n{number}"))
    service.may_answer.set()
    assert {code for _, code in outcomes_of(handover, 3)} == {"not_found"}
    assert sum(map(len, service.requests)) == 3


def test_request_that_is_too_large_is_divided(service: Service, handover: NotificationHandover) -> None:
    service.items_max = 1
    service.may_answer.clear()
    for number in range(4):
        handover.add(f"m{number}", queued(f"n{number}"))
    service.may_answer.set()
    assert outcomes_of(handover, 4) == [(f"m{number}", "stored") for number in range(4)]


def test_notification_that_the_service_fails_at_does_not_stop_the_others(
    service: Service, handover: NotificationHandover
) -> None:
    service.poison = "n1"
    service.may_answer.clear()
    for number in range(4):
        handover.add(f"m{number}", queued(f"n{number}"))
    service.may_answer.set()
    assert outcomes_of(handover, 3) == [(f"m{number}", "stored") for number in (0, 2, 3)]
    assert handover.held_count == 1
    service.poison = ""
    assert outcomes_of(handover, 1) == [("m1", "stored")]


def test_answers_after_the_connection_broke_are_forgotten(service: Service, handover: NotificationHandover) -> None:
    service.may_answer.clear()
    handover.add("old", queued("n"))
    wait_until(lambda: service.requests, why="the request")
    handover.forget()
    handover.add("again", queued("n"))
    service.may_answer.set()
    assert outcomes_of(handover, 1) == [("again", "stored")]
    assert service.requests == [["n"], ["n"]]
