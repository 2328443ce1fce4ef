"""Consumes publications from one durable queue: at most `prefetch` at once, acknowledged when the broker has them.

The ingress runs in a thread, which is a greenlet where threads are patched. It consumes on one connection and sends
dead letters on a second one. When a connection or the node ends, the queue delivers unacknowledged messages again, to
this node or another. Each message has an id, so the hub discards duplicates.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from tidings.backoff import delay_s
from tidings.errors import TidingsError, TooLarge, Unavailable
from tidings.publishers.base import OutgoingPublication
from tidings.publishers.queue.address import QueueAddress, QueueConnection, kombu_module
from tidings.publishers.queue.connection import QueueMessage, QueueProducerPool
from tidings.receipts import Receipt
from tidings_hub.config.ingress import QueueSource
from tidings_hub.core.queue_intake import Backlog, Disposition, QueuedMessage, dead_letter_headers, read_queued
from tidings_hub.log import log_rate_limited
from tidings_hub.metrics import Metrics

logger = logging.getLogger("tidings.ingress")

# Longest wait for a message, and so the delay until a stop is noticed.
_READ_TIMEOUT_S = 0.5
_HEARTBEAT_S = 1.0
_CONNECT_S = 5.0
_DEAD_LETTER_TIMEOUT_S = 5.0
# How long a stopping node keeps trying to publish the messages it has received.
_STOP_S = 5.0
# Longest back-off between two connection attempts.
_RECONNECT_CAP_S = 5.0
# After a connection of this length the back-off starts from the beginning.
_STABLE_S = 60.0
# Back-off between two attempts while the broker accepts no messages.
_RETRY_BASE_S = 0.2
_RETRY_CAP_S = 5.0
_random = secrets.SystemRandom().random


class QueueIngress:
    """The consumer of one queue of the settings. `publish` sends items to the broker in one round trip and may wait.

    Raises:
        MissingExtra: kombu is not installed. BadConfig: kombu has no such transport.
    """

    def __init__(
        self,
        name: str,
        source: QueueSource,
        *,
        node_id: str,
        data_max_bytes: int,
        publish: Callable[[Sequence[OutgoingPublication]], list[Receipt | TidingsError]],
        metrics: Metrics,
    ) -> None:
        self.name = name
        self._source = source
        self._address: QueueAddress = source.address()
        self._address.check()
        self._node_id = node_id
        self._data_max_bytes = data_max_bytes
        self._publish = publish
        self._metrics = metrics
        self._backlog: Backlog[Any] = Backlog(_pause_s)
        self._rejected: list[tuple[Any, TidingsError]] = []
        self._dead_letter_queue = QueueProducerPool(self._address)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        # Why it is not connected, for the log and for tests. It names the queue's server, so the API does not show it.
        self.last_error = ""
        self._connected = 0
        self._held_count = 0

    def start(self) -> None:
        """Start the thread, which consumes messages as soon as the queue's server is reachable."""
        self._thread = threading.Thread(target=self._run, name=f"ingress-{self.name}", daemon=True)
        self._thread.start()

    def stop_consuming(self) -> None:
        """Receive no more messages. Those received are still published and acknowledged. Never waits."""
        self._stopping.set()

    def stop(self) -> None:
        """Stop consuming and wait for the thread. Messages that were not acknowledged return to the queue."""
        self.stop_consuming()
        if self._thread is not None:
            self._thread.join(timeout=_STOP_S + _CONNECT_S)
        self._dead_letter_queue.close()

    def state(self) -> str:
        """`connected`, or `not connected`; the log has the cause."""
        return "connected" if self._connected else "not connected"

    def _run(self) -> None:
        failed = 0
        while not self._stopping.is_set():
            begun_s = time.monotonic()
            try:
                self._serve()
            except Exception as error:  # noqa: BLE001 - each transport has its own errors; none may end the thread
                failed = 0 if time.monotonic() - begun_s > _STABLE_S else failed + 1
                self._log_failure(error)
                self._stopping.wait(delay_s(failed, cap_s=_RECONNECT_CAP_S, random=_random))

    def _log_failure(self, error: Exception) -> None:
        self._metrics.ingress_reconnects += 1
        text = str(error) or type(error).__name__
        if type(error).__name__ == "PreconditionFailed":
            text += " (it exists with other properties: delete it, or set `declare = false`)"
        self.last_error = text[:300]
        log_rate_limited(
            *(logger, logging.WARNING, f"ingress {self.name}"),
            *("ingress %s: no connection to %s: %s", self.name, self._address, self.last_error),
        )
        logger.debug("ingress %s", self.name, exc_info=error)

    def _serve(self) -> None:
        """Connect and consume until the node stops. Raises when the connection breaks."""
        source = self._source
        link = self._address.connect(
            timeout_s=_CONNECT_S, heartbeat_s=source.heartbeat_s, redelivery_s=source.redelivery_s
        )
        # The queue delivers messages of an earlier connection again.
        self._backlog, self._rejected = Backlog(_pause_s), []
        try:
            link.set_timeout(_CONNECT_S)
            channel = link.channel()
            if source.declare:
                self._declare(channel)
            kombu: Any = kombu_module()
            consumer = kombu.Consumer(
                channel,
                [kombu.Queue(self._address.queue)],
                auto_declare=False,
                no_ack=False,
                prefetch_count=source.prefetch,
                on_message=self._on_message,
                on_decode_error=self._on_decode_error,
            )
            consumer.consume()
            self._update_metrics(connected=1)
            logger.info("ingress %s consumes queue %s at %s", self.name, self._address.queue, self._address)
            self._consume_until_stopped(link, consumer)
        except BaseException:
            link.drop()
            raise
        finally:
            self._update_metrics(connected=0)
        link.close()

    def _declare(self, channel: Any) -> None:
        source, queue = self._source, self._address.queue
        kind: dict[str, object] = {"x-queue-type": "quorum"} if source.quorum else {}
        # A full queue rejects new messages; it never drops one.
        full = {"x-max-length": source.queue_max, "x-overflow": "reject-publish"} if source.queue_max else {}
        order = {"x-single-active-consumer": True} if source.ordered else {}
        channel.queue_declare(queue=queue, durable=True, auto_delete=False, arguments=kind | full | order)
        channel.queue_declare(
            queue=source.dead_letter_queue_name(queue),
            durable=True,
            auto_delete=False,
            arguments=kind | {"x-max-length": source.dead_max, "x-overflow": "drop-head"},
        )

    def _consume_until_stopped(self, link: QueueConnection, consumer: Any) -> None:
        heartbeat_at_s, end_s = 0.0, None
        while True:
            now_s = time.monotonic()
            if self._stopping.is_set():
                if end_s is None:
                    consumer.cancel()
                    end_s = now_s + _STOP_S
                # If the broker accepts nothing, do not wait: another node will receive these messages.
                if not self._backlog or self._backlog.held_count or now_s >= end_s:
                    return
            if now_s >= heartbeat_at_s:
                link.check_heartbeat()
                heartbeat_at_s = now_s + _HEARTBEAT_S
            self._receive(link, self._backlog.wait_s(now_s, most_s=_READ_TIMEOUT_S))
            self._dead_letter()
            due = self._backlog.due(time.monotonic())
            if due:
                self._publish_due(due)
                self._dead_letter()

    def _receive(self, link: QueueConnection, wait_s: float) -> None:
        """Wait for a message, then receive all that are available, up to `prefetch`."""
        try:
            link.drain(wait_s)
            while len(self._backlog) < self._source.prefetch:
                link.drain(0)
        except TimeoutError:
            # No more messages for now. A broken connection raises another error, now or at the next call.
            return

    def _on_message(self, message: Any) -> None:
        self._metrics.ingress_consumed += 1
        queued = read_queued(_bytes(message.body), data_max_bytes=self._data_max_bytes)
        if isinstance(queued, TidingsError):
            self._metrics.publications_too_large += isinstance(queued, TooLarge)
            self._rejected.append((message, queued))
        else:
            self._backlog.add(message, queued)

    def _on_decode_error(self, message: Any, error: Exception) -> None:
        logger.debug("ingress %s: kombu cannot decode a message: %s", self.name, error)
        self._on_message(message)

    def _publish_due(self, due: Sequence[QueuedMessage[Any]]) -> None:
        """Publish the due messages, then acknowledge, retry or dead-letter each one."""
        keep_s = self._source.idempotency_s
        queued = [message.queued for message in due]
        items = [OutgoingPublication(item.channel, item.body, item.id, keep_s) for item in queued]
        try:
            answers = self._publish(items)
        except TidingsError as error:
            answers = [error] * len(items)
        for message, decision, answer in self._backlog.apply_answers(answers, time.monotonic()):
            if decision is Disposition.ACK:
                message.message.ack()
                self._metrics.ingress_acked += 1
            elif decision is Disposition.DEAD_LETTER and isinstance(answer, TidingsError):
                self._rejected.append((message.message, answer))
            elif isinstance(answer, TidingsError):
                log_rate_limited(
                    *(logger, logging.WARNING, f"ingress {self.name} held"),
                    *("ingress %s: publications wait because the broker does not accept them: %s", self.name, answer),
                )
        self._update_metrics(held_count=self._backlog.held_count)

    def _dead_letter(self) -> None:
        """Move rejected messages to the dead-letter queue, then acknowledge them.

        Raises:
            ConnectionLost, Unavailable: it failed. After the reconnect the queue delivers the messages again.
        """
        if not self._rejected:
            return
        dead_queue = self._source.dead_letter_queue_name(self._address.queue)
        letters = [
            QueueMessage(
                dead_queue, _bytes(message.body), str(message.properties.get("message_id") or ""), self._reason(error)
            )
            for message, error in self._rejected
        ]
        refusals = self._dead_letter_queue.send(letters, deadline_s=time.monotonic() + _DEAD_LETTER_TIMEOUT_S)
        if refusals:
            raise Unavailable(f"the dead-letter queue {dead_queue!r} accepted nothing: {min(refusals.values())}")
        for message, error in self._rejected:
            message.ack()
            self._metrics.count(self._metrics.ingress_dead, error.code.name)
            log_rate_limited(
                *(logger, logging.WARNING, f"ingress {self.name} dead {error.code.name}"),
                *("ingress %s: dead-lettered to %s (%s): %s", self.name, dead_queue, error.code.name, error),
            )
        self._rejected = []

    def _reason(self, error: TidingsError) -> dict[str, str]:
        return dead_letter_headers(error, queue=self._address.queue, node=self._node_id)

    def _update_metrics(self, *, connected: int | None = None, held_count: int = 0) -> None:
        """Update this queue's share of the metrics that all queues share."""
        connected = self._connected if connected is None else connected
        self._metrics.ingress_connected += connected - self._connected
        self._metrics.ingress_held += held_count - self._held_count
        self._connected, self._held_count = connected, held_count


def _pause_s(attempt: int) -> float:
    return delay_s(attempt, base_s=_RETRY_BASE_S, cap_s=_RETRY_CAP_S, random=_random)


def _bytes(body: Any) -> bytes:
    # py-amqp decodes bodies with a text content type.
    return body.encode() if isinstance(body, str) else bytes(body)
