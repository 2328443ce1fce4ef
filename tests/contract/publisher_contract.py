"""The contract of publishers, as tests. Subclass it and provide the fixtures `publisher` and `stored_ids`."""

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

StoredIds = Callable[[str], list[str]]
TIMEOUT_S = 10.0


def receipts(results: list[PublishResult]) -> list[Receipt]:
    assert [result for result in results if not isinstance(result, Receipt)] == []
    return [result for result in results if isinstance(result, Receipt)]


class PublisherContract:
    """`stored_ids(channel)`: the ids in a channel's history. The namespace `orders` stores 100 publications or more."""

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
        assert "closed" in str(result)


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
