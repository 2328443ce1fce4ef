"""Consumes one durable queue: at most `prefetch` messages at once, each acknowledged when its publication is stored.

The ingress runs in a thread, which is a greenlet where threads are patched. When its connection or the node ends, the
queue delivers unacknowledged messages again, to this node or another. Each message has an id, so the hub discards
duplicates. `MessageIntake` handles the messages, `DeadLetters` moves those that can never be published.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from typing import Any

from tidings.backoff import delay_s
from tidings.publishers.queue.address import QueueAddress, kombu_module
from tidings.publishers.queue.queue_connection import QueueConnection
from tidings.wire.queue_message import HEAD_MAX_BYTES
from tidings_hub.config.ingress import QueueSource
from tidings_hub.core.queues.dead_letter_book import LETTER_BYTES
from tidings_hub.ingress.crash_guard import Acquire, CrashGuard
from tidings_hub.ingress.dead_letters import DeadLetters
from tidings_hub.ingress.message_intake import MessageIntake, Publish
from tidings_hub.ingress.notification_handover import NotificationHandover, Store
from tidings_hub.ingress.undecoded_message import leave_undecoded
from tidings_hub.log import log_rate_limited
from tidings_hub.metrics import Metrics
from tidings_hub.supervised_task import SupervisedTask

logger = logging.getLogger("tidings.ingress")

# Longest wait for a message, and so the delay until a stop is noticed.
_READ_TIMEOUT_S = 0.5
_HEARTBEAT_S = 1.0
_CONNECT_S = 5.0
# Messages that are received before those already received are handled. One may be as large as RabbitMQ allows.
_ARRIVED_MAX_BYTES = 1_048_576
# How long dead letters may use up `prefetch`. They wait for milliseconds, except during an alarm.
_CROWDED_S = 1.0
# Between two looks whether there is room to receive again.
_FULL_S = 0.05
# How long a stopping node keeps trying to publish the messages it has received.
_STOP_S = 5.0
# Longest back-off between two connection attempts.
_RECONNECT_CAP_S = 5.0
# After a connection of this length the back-off starts from the beginning.
_STABLE_S = 60.0
_random = secrets.SystemRandom().random


class QueueIngress:
    """The consumer of one queue of the settings. `publish` sends items to the broker in one round trip and may wait.

    `store` hands notifications to the notification service, and may wait.
    `acquire_lease`: `Broker.acquire_lease`. `attempt_max_s`: the longest time that `publish` takes.

    Raises:
        MissingExtra: kombu is not installed. BadConfig: kombu has no such transport.
    """

    def __init__(  # noqa: PLR0913 - each is one part of the node, by name
        self,
        name: str,
        source: QueueSource,
        *,
        node_id: str,
        data_max_bytes: int,
        publish: Publish,
        store: Store,
        acquire_lease: Acquire,
        attempt_max_s: float,
        metrics: Metrics,
    ) -> None:
        self.name = name
        self._source = source
        self._address: QueueAddress = source.address()
        self._address.check()
        self._message_max_bytes = data_max_bytes + HEAD_MAX_BYTES
        self._metrics = metrics
        self._dead_queue = source.dead_letter_queue_name(self._address.queue)
        self._dead_letters = DeadLetters(
            self._address,
            self._dead_queue,
            node_id=node_id,
            heartbeat_s=source.heartbeat_s,
            count_max=source.dead_max,
            # Only messages that are not acknowledged are delivered again.
            remembered_max=source.prefetch + source.dead_waiting_max_bytes // LETTER_BYTES,
            metrics=metrics,
        )
        self._handover = NotificationHandover(name, store, metrics)
        self._intake = MessageIntake(
            name,
            publish=publish,
            guard=CrashGuard(acquire_lease, node_id=node_id, attempt_max_s=attempt_max_s),
            dead_letters=self._dead_letters,
            handover=self._handover,
            data_max_bytes=data_max_bytes,
            idempotency_s=source.idempotency_s,
            metrics=metrics,
        )
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        # Why it is not connected, for the log and for tests. It names the queue's server, so the API does not show it.
        self.last_error = ""
        self._connected = 0
        self._held_count = 0
        # Dead letters that waited when this node last began to consume, and since when there are too many new ones.
        self._waited_before = 0
        self._crowded_s = 0.0

    def start(self) -> None:
        """Start the thread, which consumes messages as soon as the queue's server is reachable."""
        self._thread = threading.Thread(
            target=SupervisedTask("queue", self._run, self._metrics), name=f"ingress-{self.name}", daemon=True
        )
        self._thread.start()
        self._dead_letters.start()
        self._handover.start()

    def stop_consuming(self) -> None:
        """Receive no more messages. Those received are still published and acknowledged. Never waits."""
        self._stopping.set()

    def stop(self) -> None:
        """Stop consuming and wait for the thread. Messages that were not acknowledged return to the queue."""
        self.stop_consuming()
        if self._thread is not None:
            self._thread.join(timeout=_STOP_S + _CONNECT_S)
        self._handover.stop(_CONNECT_S)
        self._dead_letters.stop(_CONNECT_S)

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
        # RabbitMQ closes a channel with the same code for other reasons. To delete the queue would lose messages then.
        if type(error).__name__ == "PreconditionFailed" and "inequivalent arg" in text:
            text += " (it exists with other properties: delete it, or set `declare = false`)"
        elif type(error).__name__ == "PreconditionFailed" and "timed out" in text:
            text = "messages waited longer than RabbitMQ's consumer_timeout, so it delivers them again; nothing is lost"
        elif type(error).__name__ == "ConsumerCancelled":
            self._metrics.ingress_deleted += 1
            text = f"the queue {self._address.queue} was deleted, or its server stopped. A deleted queue takes with it"
            text += " what it held, also what the server had confirmed"
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
        self._intake.forget()
        self._waited_before = len(self._dead_letters)
        try:
            link.set_timeout(_CONNECT_S)
            link.tolerate_malformed_properties()
            channel = link.channel()
            leave_undecoded(channel, self._address.queue, message_max_bytes=self._message_max_bytes)
            if source.declare:
                self._declare(channel)
            kombu: Any = kombu_module()
            consumer = kombu.Consumer(
                channel,
                [kombu.Queue(self._address.queue)],
                auto_declare=False,
                no_ack=False,
                prefetch_count=source.prefetch,
                # kombu decodes nothing with `on_message`. If it did, it would accept no serializer.
                accept=[],
                on_message=self._intake.receive,
            )
            consumer.consume()
            self._update_metrics(connected=1)
            logger.info("ingress %s consumes queue %s at %s", self.name, self._address.queue, self._address)
            self._consume_until_stopped(link, channel, consumer)
        except BaseException:
            link.report_failure()
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
        self._declare_dead_queue(channel)

    def _declare_dead_queue(self, channel: Any) -> None:
        source = self._source
        kind: dict[str, object] = {"x-queue-type": "quorum"} if source.quorum else {}
        channel.queue_declare(
            queue=self._dead_queue,
            durable=True,
            auto_delete=False,
            arguments=kind | {"x-max-length": source.dead_max, "x-overflow": "drop-head"},
        )

    def _consume_until_stopped(self, link: QueueConnection, channel: Any, consumer: Any) -> None:
        heartbeat_at_s, end_s = 0.0, None
        while True:
            now_s = time.monotonic()
            if self._stopping.is_set():
                if end_s is None:
                    consumer.cancel()
                    end_s = now_s + _STOP_S
                # If the broker accepts nothing, do not wait: another node will receive these messages.
                is_done = not self._intake and not self._dead_letters
                if is_done or self._intake.held_count or now_s >= end_s:
                    return
            if self._is_full():
                heartbeat_at_s = self._wait_for_room(link, heartbeat_at_s)
            else:
                if now_s >= heartbeat_at_s:
                    link.check_heartbeat()
                    heartbeat_at_s = now_s + _HEARTBEAT_S
                self._receive(link, self._intake.wait_s(now_s, most_s=_READ_TIMEOUT_S))
            if self._dead_letters.is_missing and self._source.declare:
                self._dead_letters.is_missing = False
                self._declare_dead_queue(channel)
            self._intake.work()
            self._make_room(consumer)
            self._update_metrics(held_count=self._intake.held_count)

    def _receive(self, link: QueueConnection, wait_s: float) -> None:
        """Wait for a message, then receive all that are available, up to `prefetch`."""
        try:
            link.drain(wait_s)
            while len(self._intake) < self._source.prefetch and self._intake.arrived_bytes < _ARRIVED_MAX_BYTES:
                link.drain(0)
        except TimeoutError:
            # No more messages for now. A broken connection raises another error, or at the next call.
            return

    def _make_room(self, consumer: Any) -> None:
        """Start another consumer while dead letters that wait use up `prefetch`: RabbitMQ counts messages per consumer.

        Otherwise they would stop the queue during an alarm. `dead_waiting_max_bytes` bounds how many there can be.
        Notifications that wait for their service may take the rest of `prefetch`; as many as that stop the queue.
        """
        self._waited_before = min(self._waited_before, len(self._dead_letters))
        room = self._source.prefetch - len(self._handover)
        is_crowded = 0 < room <= 2 * (len(self._dead_letters) - self._waited_before)
        is_crowded = is_crowded and not self._intake.unpublished_count
        now_s = time.monotonic()
        if not is_crowded or not self._address.amqp or self._stopping.is_set():
            self._crowded_s = now_s
        elif now_s - self._crowded_s >= _CROWDED_S:
            consumer.cancel()
            consumer.consume()
            self._waited_before = len(self._dead_letters)

    def _is_full(self) -> bool:
        """Whether dead letters that wait, or messages behind a redelivered one that waits, use up their memory."""
        are_letters_full = self._dead_letters.waiting_bytes >= self._source.dead_waiting_max_bytes
        return are_letters_full or self._intake.arrived_bytes >= _ARRIVED_MAX_BYTES

    def _wait_for_room(self, link: QueueConnection, heartbeat_at_s: float) -> float:
        """Receive nothing, so that memory stays bounded. Returns the time of the next heartbeat."""
        now_s = time.monotonic()
        if now_s >= heartbeat_at_s:
            # The server's heartbeats wait unread behind its messages.
            link.send_heartbeat()
            heartbeat_at_s = now_s + _HEARTBEAT_S
        time.sleep(_FULL_S)
        return heartbeat_at_s

    def _update_metrics(self, *, connected: int | None = None, held_count: int = 0) -> None:
        """Update this queue's share of the metrics that all queues share."""
        connected = self._connected if connected is None else connected
        self._metrics.ingress_connected += connected - self._connected
        self._metrics.ingress_held += held_count - self._held_count
        self._connected, self._held_count = connected, held_count
