"""Takes publications from one durable queue: at most `prefetch` at once, acknowledged when the broker has them.

It runs in a thread, which is a greenlet where threads are patched, and uses one connection; a second one puts
aside what can never be published. What is not acknowledged when a connection or the node ends is given out
again, here or elsewhere; its id makes that harmless.
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

# How soon it is noticed that the node ends.
_LOOK_S = 0.5
_BEAT_S = 1.0
_CONNECT_S = 5.0
_BURY_S = 5.0
# How long a node that ends has for what it took already.
_STOP_S = 5.0
# A server that comes back is not kept waiting for longer.
_AGAIN_CAP_S = 5.0
# A connection that lived so long was well: its end is a first one again.
_WELL_S = 60.0
# Between two attempts to give held messages to a broker that takes none.
_HELD_BASE_S = 0.2
_HELD_CAP_S = 5.0
_random = secrets.SystemRandom().random


class QueueIngress:
    """One queue of the settings. `publish` gives items to the broker, in one round trip, and may wait for it.

    Raises:
        MissingExtra: kombu is not installed. BadConfig: it has no such transport.
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
        self._poison: list[tuple[Any, TidingsError]] = []
        self._graves = QueueProducerPool(self._address)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        # Why it is not connected, for the log and for tests: it names the queue's server, which is nobody's business.
        self.last_error = ""
        self._connected = 0
        self._held = 0

    def start(self) -> None:
        """Begin to take messages, as soon as the queue's server is there."""
        self._thread = threading.Thread(target=self._run, name=f"ingress-{self.name}", daemon=True)
        self._thread.start()

    def stop_consuming(self) -> None:
        """Take no more; what was taken is still published and acknowledged. Returns at once."""
        self._stopping.set()

    def stop(self) -> None:
        """Leave, and wait until that is done; what could not be settled goes back into the queue."""
        self.stop_consuming()
        if self._thread is not None:
            self._thread.join(timeout=_STOP_S + _CONNECT_S)
        self._graves.close()

    def state(self) -> str:
        """`connected`, or `not connected`: its log says why."""
        return "connected" if self._connected else "not connected"

    def _run(self) -> None:
        failed = 0
        while not self._stopping.is_set():
            began_s = time.monotonic()
            try:
                self._serve()
            except Exception as error:  # noqa: BLE001 - each transport has errors of its own, and none may end this
                failed = 0 if time.monotonic() - began_s > _WELL_S else failed + 1
                self._note_failure(error)
                self._stopping.wait(delay_s(failed, cap_s=_AGAIN_CAP_S, random=_random))

    def _note_failure(self, error: Exception) -> None:
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
        """One connection's life, until it breaks (which raises) or the node ends."""
        source = self._source
        link = self._address.connect(
            timeout_s=_CONNECT_S, heartbeat_s=source.heartbeat_s, redelivery_s=source.redelivery_s
        )
        # What an earlier connection took is given out again.
        self._backlog, self._poison = Backlog(_pause_s), []
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
                on_message=self._arrived,
                on_decode_error=self._arrived_broken,
            )
            consumer.consume()
            self._note(connected=1)
            logger.info(
                "ingress %s takes publications from %s, queue %s", self.name, self._address, self._address.queue
            )
            self._take_until_stopped(link, consumer)
        except BaseException:
            link.drop()
            raise
        finally:
            self._note(connected=0)
        link.close()

    def _declare(self, channel: Any) -> None:
        source, queue = self._source, self._address.queue
        kind: dict[str, object] = {"x-queue-type": "quorum"} if source.quorum else {}
        # Full means that publishers are told, never that something is dropped.
        full = {"x-max-length": source.queue_max, "x-overflow": "reject-publish"} if source.queue_max else {}
        order = {"x-single-active-consumer": True} if source.ordered else {}
        channel.queue_declare(queue=queue, durable=True, auto_delete=False, arguments=kind | full | order)
        channel.queue_declare(
            queue=source.dead_letters(queue),
            durable=True,
            auto_delete=False,
            arguments=kind | {"x-max-length": source.dead_max, "x-overflow": "drop-head"},
        )

    def _take_until_stopped(self, link: QueueConnection, consumer: Any) -> None:
        beat_s, end_s = 0.0, None
        while True:
            now_s = time.monotonic()
            if self._stopping.is_set():
                if end_s is None:
                    consumer.cancel()
                    end_s = now_s + _STOP_S
                # Where the broker takes nothing there is nothing to wait for: others will get these.
                if not self._backlog or self._backlog.held_count or now_s >= end_s:
                    return
            if now_s >= beat_s:
                link.check_heartbeat()
                beat_s = now_s + _BEAT_S
            self._take(link, self._backlog.wait_s(now_s, most_s=_LOOK_S))
            self._bury()
            due = self._backlog.due(time.monotonic())
            if due:
                self._give(due)
                self._bury()

    def _take(self, link: QueueConnection, wait_s: float) -> None:
        """Wait for a message, and take all that are there."""
        try:
            link.drain(wait_s)
            while len(self._backlog) < self._source.prefetch:
                link.drain(0)
        except TimeoutError:
            # Nothing more for now; a connection that died says so next time.
            return

    def _arrived(self, message: Any) -> None:
        self._metrics.ingress_consumed += 1
        found = read_queued(_bytes(message.body), data_max_bytes=self._data_max_bytes)
        if isinstance(found, TidingsError):
            self._metrics.publications_too_large += isinstance(found, TooLarge)
            self._poison.append((message, found))
        else:
            self._backlog.add(message, found)

    def _arrived_broken(self, message: Any, error: Exception) -> None:
        logger.debug("ingress %s: kombu cannot decode a message: %s", self.name, error)
        self._arrived(message)

    def _give(self, due: Sequence[QueuedMessage[Any]]) -> None:
        """Publish, and do what follows from the answers."""
        keep_s = self._source.idempotency_s
        items = [OutgoingPublication(one.queued.channel, one.queued.body, one.queued.id, keep_s) for one in due]
        try:
            answers = self._publish(items)
        except TidingsError as error:
            answers = [error] * len(items)
        for taken, fate, answer in self._backlog.apply_answers(answers, time.monotonic()):
            if fate is Disposition.ACK:
                taken.message.ack()
                self._metrics.ingress_acked += 1
            elif fate is Disposition.DEAD_LETTER and isinstance(answer, TidingsError):
                self._poison.append((taken.message, answer))
            elif isinstance(answer, TidingsError):
                log_rate_limited(
                    *(logger, logging.WARNING, f"ingress {self.name} held"),
                    *("ingress %s: publications wait, the broker does not take them: %s", self.name, answer),
                )
        self._note(held=self._backlog.held_count)

    def _bury(self) -> None:
        """Put aside what can never be published, then acknowledge it.

        Raises:
            ConnectionLost, Unavailable: it could not be put aside; the connection is made anew, and it comes again.
        """
        if not self._poison:
            return
        dead = self._source.dead_letters(self._address.queue)
        letters = [
            QueueMessage(
                dead, _bytes(message.body), str(message.properties.get("message_id") or ""), self._reason(error)
            )
            for message, error in self._poison
        ]
        refused = self._graves.send(letters, deadline_s=time.monotonic() + _BURY_S)
        if refused:
            raise Unavailable(f"the dead-letter queue {dead!r} took nothing: {min(refused.values())}")
        for message, error in self._poison:
            message.ack()
            self._metrics.count(self._metrics.ingress_dead, error.code.name)
            log_rate_limited(
                *(logger, logging.WARNING, f"ingress {self.name} dead {error.code.name}"),
                *("ingress %s: put aside in %s (%s): %s", self.name, dead, error.code.name, error),
            )
        self._poison = []

    def _reason(self, error: TidingsError) -> dict[str, str]:
        return dead_letter_headers(error, queue=self._address.queue, node=self._node_id)

    def _note(self, *, connected: int | None = None, held: int = 0) -> None:
        """Count this queue's part of what all of them share."""
        connected = self._connected if connected is None else connected
        self._metrics.ingress_connected += connected - self._connected
        self._metrics.ingress_held += held - self._held
        self._connected, self._held = connected, held


def _pause_s(attempt: int) -> float:
    return delay_s(attempt, base_s=_HELD_BASE_S, cap_s=_HELD_CAP_S, random=_random)


def _bytes(body: Any) -> bytes:
    # py-amqp decodes what calls itself text.
    return body.encode() if isinstance(body, str) else bytes(body)
