"""Publishing through a durable queue from which hubs consume: RabbitMQ, or another of kombu's transports.

A receipt means that the queue has the publication; a hub numbers it when it consumes it (PROTOCOL.md section 11). Works
in threads, after a fork, and under gevent or eventlet: it has no thread, lock or event loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

from tidings.errors import TidingsError
from tidings.publishers.base import NotifyResult, OutgoingNotification, OutgoingPublication, PublishResult
from tidings.publishers.queue.address import QueueAddress
from tidings.publishers.queue.connection import QueueMessage, QueueProducerPool
from tidings.publishers.retry_state import Item, Proof, RetryState
from tidings.publishers.threaded import ThreadedNotifier
from tidings.receipts import NotificationReceipt, Receipt
from tidings.redis_client.connection import ConnectionLost
from tidings.wire.queue_message import encode_queue_message, encode_queue_notification


class QueueBatch(RetryState[Item, Proof]):
    """Items to send to a queue. The caller repeats `messages` and then `on_sent` or `fail`; see `RetryState`.

    `receipt` makes the receipt for an id.
    """

    def __init__(
        self,
        items: Sequence[Item],
        address: QueueAddress,
        receipt: Callable[[str], Proof],
        *,
        timeout_s: float,
        now_s: float,
        random: Callable[[], float] | None = None,
    ) -> None:
        super().__init__(items, str(address), timeout_s=timeout_s, now_s=now_s, random=random)
        self._queue = address.queue
        self._receipt = receipt

    def messages(self) -> list[QueueMessage]:
        """A message for each open item, in order."""
        open_items = [self._items[index] for index in self._open]
        return [
            QueueMessage(
                self._queue,
                encode_queue_message(item.channel, item.body)
                if isinstance(item, OutgoingPublication)
                else encode_queue_notification(item.body),
                item.id,
            )
            for item in open_items
        ]

    def on_sent(self, rejected: dict[int, str]) -> None:
        """Record that all messages were sent. `rejected`: reasons by index; the queue has the others."""
        self._attempts += 1
        still_open = []
        for position, index in enumerate(self._open):
            if position in rejected:
                self._reason = rejected[position]
                still_open.append(index)
            else:
                self._results[index] = self._receipt(self._items[index].id)
        self._open = still_open


_queued = partial(Receipt, cursor="")
_accepted = partial(NotificationReceipt, state="accepted")


class KombuPublisher:
    """A `Publisher` for amqp://, amqps:// and kombu+<transport>:// URLs.

    Connects at the first publish. Its receipts have no cursor: the queue has stored the publication, and a hub will
    publish it. A hub dead-letters what it cannot publish. Time limits hold over AMQP and Redis; other transports have
    their own.

    Raises:
        BadConfig: an invalid URL. MissingExtra: kombu is not installed.
    """

    def __init__(self, url: str) -> None:
        address = QueueAddress.parse(url)
        address.check()
        self._pool = QueueProducerPool(address)
        self._closed = False

    def publish(self, items: Sequence[OutgoingPublication], *, timeout_s: float) -> list[PublishResult]:
        """See `Publisher.publish`. The confirms of all items are awaited together."""
        return self._send(QueueBatch(items, self._pool.address, _queued, timeout_s=timeout_s, now_s=time.monotonic()))

    def notify(self, items: Sequence[OutgoingNotification], *, timeout_s: float) -> list[NotifyResult]:
        """See `Notifier.notify`. The receipts say "accepted": a hub passes them on to the notification service."""
        return self._send(QueueBatch(items, self._pool.address, _accepted, timeout_s=timeout_s, now_s=time.monotonic()))

    def _send(self, batch: QueueBatch[Item, Proof]) -> list[Proof | TidingsError]:
        pause_s = self._pause_s(batch)
        while pause_s is not None:
            if pause_s:
                time.sleep(pause_s)
            self._attempt(batch)
            pause_s = self._pause_s(batch)
        return batch.results()

    def _attempt(self, batch: QueueBatch[Item, Proof]) -> None:
        try:
            batch.on_sent(self._pool.send(batch.messages(), deadline_s=batch.deadline_s))
        except ConnectionLost as error:
            self._pool.drop_idle()
            batch.fail(str(error), sent=error.sent, final=error.final)

    def _pause_s(self, batch: QueueBatch[Item, Proof]) -> float | None:
        if self._closed:
            batch.close()
        return batch.pause_s(time.monotonic())

    def close(self) -> None:
        """See `Publisher.close`."""
        self._closed = True
        self._pool.close()


class AsyncKombuPublisher(ThreadedNotifier):
    """An `AsyncPublisher` for the same URLs: kombu's drivers block."""

    def __init__(self, url: str) -> None:
        super().__init__(KombuPublisher(url), name="kombu")
