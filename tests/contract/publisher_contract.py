"""What every publisher promises, as tests. Subclass it and provide the fixtures `publisher` and `kept`."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable

import pytest

from contract.broker_contract import outgoing
from tidings.errors import Unavailable, UnknownNamespace
from tidings.publishers.base import HubPublisher, Publisher, PublishResult
from tidings.receipts import Receipt
from tidings.wire.cursor import Cursor
from tidings.wire.reports import Report, ReportQuery

Kept = Callable[[str], list[str]]
TIMEOUT_S = 10.0


def receipts(answers: list[PublishResult]) -> list[Receipt]:
    assert [one for one in answers if not isinstance(one, Receipt)] == []
    return [one for one in answers if isinstance(one, Receipt)]


class PublisherContract:
    """`kept(channel)` are the ids that the broker keeps of a channel; namespace `orders` keeps 100 or more."""

    @pytest.fixture
    def publisher(self) -> Publisher:
        raise NotImplementedError

    @pytest.fixture
    def kept(self) -> Kept:
        raise NotImplementedError

    def test_a_batch_is_answered_item_by_item_and_kept_in_order(self, publisher: Publisher, kept: Kept) -> None:
        items = [outgoing("orders:1") for _ in range(50)]
        answers = receipts(publisher.publish(items, timeout_s=TIMEOUT_S))
        assert [one.id for one in answers] == [one.id for one in items]
        cursors = [Cursor.parse(one.cursor) for one in answers]
        assert [later.seq - earlier.seq for earlier, later in itertools.pairwise(cursors)] == [1] * 49
        assert kept("orders:1") == [one.id for one in items]

    def test_an_empty_batch_is_answered_with_nothing(self, publisher: Publisher) -> None:
        assert publisher.publish([], timeout_s=TIMEOUT_S) == []

    def test_the_same_id_is_published_once_per_channel(self, publisher: Publisher, kept: Kept) -> None:
        one, other = outgoing("orders:1", id="same"), outgoing("orders:2", id="same")
        first, again, elsewhere = receipts(publisher.publish([one, one, other], timeout_s=TIMEOUT_S))
        assert (again.cursor, again.duplicate) == (first.cursor, True)
        assert not first.duplicate
        assert not elsewhere.duplicate
        assert kept("orders:1") == ["same"]

    def test_what_is_refused_does_not_hold_up_the_others(self, publisher: Publisher, kept: Kept) -> None:
        items = [outgoing("orders:1"), outgoing("nobody:1"), outgoing("orders:1")]
        answers = publisher.publish(items, timeout_s=TIMEOUT_S)
        assert isinstance(answers[1], UnknownNamespace)
        assert "nobody" in str(answers[1])
        assert kept("orders:1") == [items[0].id, items[2].id]

    def test_large_and_many_sided_data(self, publisher: Publisher, kept: Kept) -> None:
        data = '{"text":"äöü € 🙂 \\u0000 \\\\ \\" ","long":"' + "x" * 60_000 + '"}'
        items = [outgoing("orders:1", data=data.encode()) for _ in range(3)]
        receipts(publisher.publish(items, timeout_s=TIMEOUT_S))
        assert kept("orders:1") == [one.id for one in items]

    def test_threads_share_it(self, publisher: Publisher, kept: Kept) -> None:
        answers: list[Receipt] = []

        def work() -> None:
            for _ in range(10):
                answers.extend(receipts(publisher.publish([outgoing("orders:1")], timeout_s=TIMEOUT_S)))

        workers = [threading.Thread(target=work) for _ in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert len(answers) == 80
        by_seq = sorted(answers, key=lambda one: Cursor.parse(one.cursor).seq)
        assert kept("orders:1") == [one.id for one in by_seq]

    def test_after_close_it_says_so(self, publisher: Publisher) -> None:
        publisher.publish([outgoing("orders:1")], timeout_s=TIMEOUT_S)
        publisher.close()
        publisher.close()
        (answer,) = publisher.publish([outgoing("orders:1")], timeout_s=TIMEOUT_S)
        assert isinstance(answer, Unavailable)
        assert "closed" in str(answer)


class HubPublisherContract(PublisherContract):
    """What publishers promise in addition if nodes reply through them."""

    @pytest.fixture
    def publisher(self) -> HubPublisher:
        raise NotImplementedError

    def test_report_of_a_publication_without_recipients_is_empty(self, publisher: HubPublisher) -> None:
        (receipt,) = receipts(publisher.publish([outgoing("orders:1", options="ra")], timeout_s=TIMEOUT_S))
        begun_s = time.monotonic()
        report = publisher.report(ReportQuery(receipt.id, "orders:1", receipt.cursor), timeout_s=TIMEOUT_S)
        assert report == Report(receipt.id, "orders:1", receipt.cursor, 0, 0, {})
        assert report.settled
        assert time.monotonic() - begun_s < TIMEOUT_S / 2

    def test_report_after_close_is_unavailable(self, publisher: HubPublisher) -> None:
        publisher.close()
        with pytest.raises(Unavailable, match="closed"):
            publisher.report(ReportQuery("x", "orders:1", "e.1"), timeout_s=TIMEOUT_S)
