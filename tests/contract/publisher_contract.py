"""The contracts of publishers, as tests. Subclass one and provide its fixtures."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

import pytest

from contract.broker_contract import outgoing
from tidings.errors import Unavailable, UnknownCategory, UnknownNamespace
from tidings.publishers.base import (
    HubPublisher,
    Notifier,
    NotifyResult,
    OutgoingNotification,
    Publisher,
    PublishResult,
)
from tidings.receipts import NotificationReceipt, Receipt
from tidings.wire.cursor import Cursor
from tidings.wire.notification import Notification
from tidings.wire.notification_request import read_request
from tidings.wire.reports import Report, ReportQuery

StoredIds = Callable[[str], list[str]]
Received = Callable[[str], list[Notification]]
TIMEOUT_S = 10.0


def receipts(results: list[PublishResult]) -> list[Receipt]:
    assert [result for result in results if not isinstance(result, Receipt)] == []
    return [result for result in results if isinstance(result, Receipt)]


def notification(user: str, **fields: Any) -> OutgoingNotification:
    """One notification of the category `order_shipped`."""
    values = {"category": "order_shipped", "user": user, "title": "It has shipped", **fields}
    (made_notification,) = read_request(values, now_ms=time.time_ns() // 1_000_000)
    return OutgoingNotification(made_notification)


def notification_receipts(results: list[NotifyResult]) -> list[NotificationReceipt]:
    assert [result for result in results if not isinstance(result, NotificationReceipt)] == []
    return [result for result in results if isinstance(result, NotificationReceipt)]


class PublishingNotifier(Publisher, Notifier, Protocol):
    """A publisher that also takes notifications."""


class PublisherContract:
    """Fixtures: `publisher`, and `stored_ids(channel)`: the ids in a channel's history.

    The namespace `orders` stores 100 publications or more.
    """

    @pytest.fixture
    def publisher(self) -> Publisher:
        raise NotImplementedError

    @pytest.fixture
    def stored_ids(self) -> StoredIds:
        raise NotImplementedError

    def test_batch_has_one_result_per_item_and_is_stored_in_order(
        self, publisher: Publisher, stored_ids: StoredIds
    ) -> None:
        items = [outgoing("orders:1") for _ in range(50)]
        results = receipts(publisher.publish(items, timeout_s=TIMEOUT_S))
        assert [receipt.id for receipt in results] == [item.id for item in items]
        cursors = [Cursor.parse(receipt.cursor) for receipt in results]
        assert [later.seq - earlier.seq for earlier, later in itertools.pairwise(cursors)] == [1] * 49
        assert stored_ids("orders:1") == [item.id for item in items]

    def test_empty_batch_has_no_results(self, publisher: Publisher) -> None:
        assert publisher.publish([], timeout_s=TIMEOUT_S) == []

    def test_the_same_id_is_published_once_per_channel(self, publisher: Publisher, stored_ids: StoredIds) -> None:
        item, other_channel = outgoing("orders:1", id="same"), outgoing("orders:2", id="same")
        first, second, other = receipts(publisher.publish([item, item, other_channel], timeout_s=TIMEOUT_S))
        assert (second.cursor, second.duplicate) == (first.cursor, True)
        assert not first.duplicate
        assert not other.duplicate
        assert stored_ids("orders:1") == ["same"]

    def test_id_and_channel_are_never_taken_for_those_of_another_channel(
        self, publisher: Publisher, stored_ids: StoredIds
    ) -> None:
        # Several pairs, because in a cluster the two channels of a pair may lie in different buckets.
        parts = ("a", "b", "c", "d", "e", "f", "g", "h")
        pairs = [(outgoing("orders:1", id=f"{part}:x"), outgoing(f"orders:1:{part}", id="x")) for part in parts]
        results = receipts(publisher.publish(list(itertools.chain(*pairs)), timeout_s=TIMEOUT_S))
        assert not any(receipt.duplicate for receipt in results)
        assert [stored_ids(f"orders:1:{part}") for part in parts] == [["x"]] * len(parts)

    def test_rejected_item_does_not_stop_the_others(self, publisher: Publisher, stored_ids: StoredIds) -> None:
        items = [outgoing("orders:1"), outgoing("unknown:1"), outgoing("orders:1")]
        results = publisher.publish(items, timeout_s=TIMEOUT_S)
        assert isinstance(results[1], UnknownNamespace)
        assert "unknown" in str(results[1])
        assert stored_ids("orders:1") == [items[0].id, items[2].id]

    def test_large_data_with_special_characters(self, publisher: Publisher, stored_ids: StoredIds) -> None:
        data = '{"text":"äöü € 🙂 \\u0000 \\\\ \\" ","long":"' + "x" * 60_000 + '"}'
        items = [outgoing("orders:1", data=data.encode()) for _ in range(3)]
        receipts(publisher.publish(items, timeout_s=TIMEOUT_S))
        assert stored_ids("orders:1") == [item.id for item in items]

    def test_threads_share_a_publisher(self, publisher: Publisher, stored_ids: StoredIds) -> None:
        results: list[Receipt] = []

        def work() -> None:
            for _ in range(10):
                results.extend(receipts(publisher.publish([outgoing("orders:1")], timeout_s=TIMEOUT_S)))

        workers = [threading.Thread(target=work) for _ in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert len(results) == 80
        by_seq = sorted(results, key=lambda receipt: Cursor.parse(receipt.cursor).seq)
        assert stored_ids("orders:1") == [receipt.id for receipt in by_seq]

    def test_publish_after_close_is_unavailable(self, publisher: Publisher) -> None:
        publisher.publish([outgoing("orders:1")], timeout_s=TIMEOUT_S)
        publisher.close()
        publisher.close()
        (result,) = publisher.publish([outgoing("orders:1")], timeout_s=TIMEOUT_S)
        assert isinstance(result, Unavailable)
        assert str(result) == "this publisher was closed; make a new one"


class HubPublisherContract(PublisherContract):
    """The additional contract of publishers through which nodes reply."""

    @pytest.fixture
    def publisher(self) -> HubPublisher:
        raise NotImplementedError

    def test_report_of_a_publication_without_recipients_is_empty(self, publisher: HubPublisher) -> None:
        (receipt,) = receipts(publisher.publish([outgoing("orders:1", options="ra")], timeout_s=TIMEOUT_S))
        start_s = time.monotonic()
        report = publisher.report(ReportQuery(receipt.id, "orders:1", receipt.cursor), timeout_s=TIMEOUT_S)
        assert report == Report(receipt.id, "orders:1", receipt.cursor, 0, 0, {})
        assert report.settled
        assert time.monotonic() - start_s < TIMEOUT_S / 2

    def test_report_after_close_is_unavailable(self, publisher: HubPublisher) -> None:
        publisher.close()
        with pytest.raises(Unavailable, match="closed"):
            publisher.report(ReportQuery("x", "orders:1", "e.1"), timeout_s=TIMEOUT_S)


class NotifierContract:
    """Fixtures: `publisher`, and `received(user)`: the notifications of a user that the notification service receives.

    Its only category is `order_shipped`. `state`: of the receipts.
    """

    state = "accepted"

    @pytest.fixture
    def publisher(self) -> PublishingNotifier:
        raise NotImplementedError

    @pytest.fixture
    def received(self) -> Received:
        raise NotImplementedError

    def test_every_notification_arrives_unchanged_and_in_order(
        self, publisher: PublishingNotifier, received: Received
    ) -> None:
        full = {
            "body": "Line 1\nLine 2 <b>äöü</b>",
            "url": "/orders/42",
            "icon": "https://cdn.example/x.png",
            "data": {"text": '€ 🙂 \0 \\ "', "long": "x" * 50_000},
            "group": "order:42",
            "expires_in_s": 60,
        }
        items = [notification(f"u{number % 7}", id=f"n-{number}", **full) for number in range(210)]
        results = notification_receipts(publisher.notify(items, timeout_s=TIMEOUT_S))
        assert results == [NotificationReceipt(item.id, self.state) for item in items]
        for user in range(7):
            assert received(f"u{user}") == [item.notification for item in items[user::7]]

    def test_no_notifications_have_no_results(self, publisher: PublishingNotifier) -> None:
        assert publisher.notify([], timeout_s=TIMEOUT_S) == []

    def test_a_thousand_users_take_one_call(self, publisher: PublishingNotifier, received: Received) -> None:
        items = [notification(f"many-{number}", id="same") for number in range(1_000)]
        assert len(notification_receipts(publisher.notify(items, timeout_s=TIMEOUT_S))) == 1_000
        assert received("many-0") == [items[0].notification]
        assert received("many-999") == [items[999].notification]

    def test_unknown_category_fails_alone(self, publisher: PublishingNotifier, received: Received) -> None:
        items = [notification("7"), notification("7", category="order_lost"), notification("7")]
        first, second, third = publisher.notify(items, timeout_s=TIMEOUT_S)
        assert isinstance(second, UnknownCategory)
        assert "'order_lost'" in str(second)
        assert len(notification_receipts([first, third])) == 2
        assert received("7") == [items[0].notification, items[2].notification]

    def test_threads_share_a_notifier(self, publisher: PublishingNotifier, received: Received) -> None:
        results: list[NotificationReceipt] = []

        def work(user: str) -> None:
            for _ in range(10):
                results.extend(notification_receipts(publisher.notify([notification(user)], timeout_s=TIMEOUT_S)))

        workers = [threading.Thread(target=work, args=(f"t{number}",)) for number in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert len({receipt.id for receipt in results}) == 80
        assert sum(len(received(f"t{number}")) for number in range(8)) == 80

    def test_notify_after_close_is_unavailable(self, publisher: PublishingNotifier) -> None:
        publisher.notify([notification("7")], timeout_s=TIMEOUT_S)
        publisher.close()
        (result,) = publisher.notify([notification("7")], timeout_s=TIMEOUT_S)
        assert isinstance(result, Unavailable)
        assert str(result) == "this publisher was closed; make a new one"
