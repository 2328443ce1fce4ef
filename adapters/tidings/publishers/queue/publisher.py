"""Publishing through a durable queue that hubs consume: RabbitMQ, or another of kombu's transports.

The queue has what it confirmed; numbers are given when a hub takes it (PROTOCOL.md section 11). Works in
threads, after a fork, and under gevent or eventlet: it has no thread, lock or event loop of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from tidings.publishers.base import OutgoingPublication, PublishResult
from tidings.publishers.queue.address import QueueAddress
from tidings.publishers.queue.connection import QueueMessage, QueueProducerPool
from tidings.publishers.retry_state import RetryState
from tidings.publishers.threaded import ThreadedPublisher
from tidings.receipts import Receipt
from tidings.redis_client.connection import ConnectionLost
from tidings.wire.queue_message import encode_queue_message


class QueueBatch(RetryState):
    """Items on their way into a queue: the caller repeats `letters` and one of `take` and `fail`; see `Tries`."""

    def __init__(
        self,
        items: Sequence[OutgoingPublication],
        address: QueueAddress,
        *,
        timeout_s: float,
        now_s: float,
        random: Callable[[], float] | None = None,
    ) -> None:
        super().__init__(items, str(address), timeout_s=timeout_s, now_s=now_s, random=random)
        self._queue = address.queue

    def messages(self) -> list[QueueMessage]:
        """A message for each open item, in order."""
        opened = [self._items[place] for place in self._open]
        return [QueueMessage(self._queue, encode_queue_message(item.channel, item.body), item.id) for item in opened]

    def on_sent(self, refused: dict[int, str]) -> None:
        """All letters were sent: why some were refused, by their place; the queue has the others."""
        self._attempts += 1
        again = []
        for place, index in enumerate(self._open):
            if place in refused:
                self._reason = refused[place]
                again.append(index)
            else:
                self._results[index] = Receipt(self._items[index].id, "")
        self._open = again


class KombuPublisher:
    """A `Publisher` for amqp://, amqps:// and kombu+<transport>:// URLs.

    Nothing is connected before the first publish. Its receipts have no cursor: the queue has the publication
    durably, and a hub will publish it. What a hub cannot publish goes to its dead-letter queue. Time limits
    are kept over AMQP and Redis; other transports bring their own.

    Raises:
        BadConfig: the URL is none. MissingExtra: kombu is not installed.
    """

    def __init__(self, url: str) -> None:
        address = QueueAddress.parse(url)
        address.check()
        self._pool = QueueProducerPool(address)
        self._closed = False

    def publish(self, items: Sequence[OutgoingPublication], *, timeout_s: float) -> list[PublishResult]:
        """See `Publisher.publish`; the confirms of all items are awaited together."""
        outbox = QueueBatch(items, self._pool.address, timeout_s=timeout_s, now_s=time.monotonic())
        pause_s = self._pause_s(outbox)
        while pause_s is not None:
            if pause_s:
                time.sleep(pause_s)
            self._attempt(outbox)
            pause_s = self._pause_s(outbox)
        return outbox.results()

    def _attempt(self, outbox: QueueBatch) -> None:
        try:
            outbox.on_sent(self._pool.send(outbox.messages(), deadline_s=outbox.deadline_s))
        except ConnectionLost as error:
            self._pool.drop_idle()
            outbox.fail(str(error), sent=error.sent, final=error.final)

    def _pause_s(self, outbox: QueueBatch) -> float | None:
        if self._closed:
            outbox.fail("this publisher is closed", sent=False, final=True)
        return outbox.pause_s(time.monotonic())

    def close(self) -> None:
        """See `Publisher.close`."""
        self._closed = True
        self._pool.close()


class AsyncKombuPublisher(ThreadedPublisher):
    """An `AsyncPublisher` for the same URLs: kombu's drivers block."""

    def __init__(self, url: str) -> None:
        super().__init__(KombuPublisher(url), name="kombu")
