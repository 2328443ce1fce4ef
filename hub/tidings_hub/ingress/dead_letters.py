"""Moves rejected messages to the dead-letter queue, in a thread of its own.

A RabbitMQ that blocks publishers (an alarm: memory, disk) confirms nothing for minutes. Meanwhile the ingress publishes
the other messages. The thread keeps its connection as long as it works, because a second attempt makes a duplicate.
"""

from __future__ import annotations

import logging
import secrets
import threading
from typing import Any

from tidings.backoff import delay_s
from tidings.errors import TidingsError
from tidings.publishers.queue.address import QueueAddress, is_too_large
from tidings.publishers.queue.connection import QueueMessage, QueueProducer
from tidings.redis_client.connection import ConnectionLost
from tidings_hub.core.queues.dead_letter_book import DeadLetterBook, Letter
from tidings_hub.core.queues.queue_intake import dead_letter_headers
from tidings_hub.ingress.undecoded_message import body_of, id_of, is_redelivered, key_of
from tidings_hub.log import log_rate_limited
from tidings_hub.metrics import Metrics
from tidings_hub.supervised_task import SupervisedTask

logger = logging.getLogger("tidings.ingress")

_CONNECT_S = 5.0
# Between two heartbeat checks while there is nothing to send.
_IDLE_S = 0.5
# Letters that are on their way together. A blocked RabbitMQ leaves this much in the buffers of the connection, so that
# writing does not wait; a larger letter goes alone.
_BATCH_MAX = 100
_BATCH_BYTES_MAX = 65_536
_BACKOFF_BASE_S = 0.2
_BACKOFF_CAP_S = 5.0
_random = secrets.SystemRandom().random


class DeadLetters:
    """The dead-letter queue `queue` of the queue at `address`. `remembered_max`: see `DeadLetterBook`.

    `count_max`: the most that a Redis list holds. RabbitMQ has it as the queue's `x-max-length`.
    """

    def __init__(
        self,
        address: QueueAddress,
        queue: str,
        *,
        node_id: str,
        heartbeat_s: float,
        count_max: int,
        remembered_max: int,
        metrics: Metrics,
    ) -> None:
        self._address = address
        self._queue = queue
        self._node_id = node_id
        self._heartbeat_s = heartbeat_s
        self._count_max = count_max
        self._metrics = metrics
        self._book: DeadLetterBook[Any] = DeadLetterBook(remembered_max=remembered_max)
        # Guards the book. Nothing waits while it is held.
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._producer: QueueProducer | None = None
        self._failed = 0
        self._counted = 0
        # 1 after RabbitMQ has refused a letter for its size, until it is known which one.
        self._batch_max = _BATCH_MAX
        # Set while the dead-letter queue does not exist, so that the ingress declares it again.
        self.is_missing = False

    def start(self) -> None:
        """Start the thread. It connects when there is a letter."""
        self._thread = threading.Thread(
            target=SupervisedTask("dead_letters", self._run, self._metrics),
            name=f"dead-letters-{self._queue}",
            daemon=True,
        )
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Stop the thread. Messages that the dead-letter queue does not have are not acknowledged."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def add(self, message: Any, error: TidingsError) -> None:
        """Send a message of kombu to the dead-letter queue, with the reason. Never waits."""
        letter = Letter(key_of(message), id_of(message), body_of(message), error, message)
        with self._lock:
            self._book.add(letter, redelivered=is_redelivered(message))
            self._update_metrics()
        self._wake.set()

    def acknowledge(self) -> None:
        """Acknowledge the messages that the dead-letter queue has.

        Raises:
            One of the connection's `errors`: the connection that delivered them broke.
        """
        with self._lock:
            letters = self._book.pop_confirmed()
        for letter in letters:
            if letter.delivery is not None:
                letter.delivery.ack()

    def forget_deliveries(self) -> None:
        """The connection that delivered the messages has broken, so the queue delivers them again."""
        with self._lock:
            self._book.forget_deliveries()
            self._update_metrics()

    def __len__(self) -> int:
        """How many letters the dead-letter queue does not have yet."""
        return len(self._book)

    @property
    def waiting_bytes(self) -> int:
        """Bytes of these letters."""
        return self._book.waiting_bytes

    def _run(self) -> None:
        while not self._stopping.is_set():
            with self._lock:
                letters = self._book.take(count_max=self._batch_max, bytes_max=_BATCH_BYTES_MAX)
            try:
                if letters:
                    self._send(letters)
                else:
                    self._idle()
            except Exception as error:  # noqa: BLE001 - each transport has its own errors; none may end the thread
                self._on_failure(letters, error)
        if self._producer is not None:
            self._producer.close()

    def _send(self, letters: list[Letter[Any]]) -> None:
        if self._producer is None:
            self._producer = QueueProducer(self._address, timeout_s=_CONNECT_S, heartbeat_s=self._heartbeat_s)
        messages = [
            QueueMessage(self._queue, letter.carried_body, letter.id, self._headers_of(letter)) for letter in letters
        ]
        refusals = self._producer.send_patiently(messages, is_abandoned=self._is_abandoned)
        sent = [letter for index, letter in enumerate(letters) if index not in refusals]
        with self._lock:
            self._book.confirm(sent)
            self._book.put_back([letter for index, letter in enumerate(letters) if index in refusals])
            self._update_metrics()
        for letter in sent:
            name = letter.error.code.name
            self._metrics.count(self._metrics.ingress_dead, name)
            log_rate_limited(
                *(logger, logging.WARNING, f"dead letter {self._queue} {name}"),
                "dead-lettered to %s (%s): %s",
                *(self._queue, name, letter.error),
            )
        self._failed = 0 if sent else self._failed
        self._batch_max = _BATCH_MAX if sent else self._batch_max
        self.is_missing = bool(refusals)
        if sent:
            self._producer.keep_newest(self._queue, self._count_max)
        if refusals:
            self._back_off(f"it accepted nothing: {min(refusals.values())}")

    def _headers_of(self, letter: Letter[Any]) -> dict[str, str]:
        size_bytes = None if letter.carried_bytes is None else len(letter.body)
        return dead_letter_headers(
            letter.error, queue=self._address.queue, node=self._node_id, shortened_from_bytes=size_bytes
        )

    def _is_abandoned(self) -> bool:
        """Whether to stop waiting for a confirm. Called every half second."""
        if self._producer is not None and self._producer.blocked:
            self._log_waiting(self._producer.blocked)
        return self._stopping.is_set()

    def _idle(self) -> None:
        if self._producer is None:
            self._wake.wait()
        elif not self._wake.wait(_IDLE_S):
            self._producer.keep_alive(0.0)
        self._wake.clear()

    def _on_failure(self, letters: list[Letter[Any]], error: Exception) -> None:
        if self._producer is not None:
            self._producer.drop()
            self._producer = None
        if is_too_large(error.__cause__):
            self._shorten(letters)
        with self._lock:
            self._book.put_back(letters)
            self._update_metrics()
        logger.debug("dead letters of %s", self._queue, exc_info=error)
        if letters and not self._stopping.is_set():
            self._back_off(
                str(error) if isinstance(error, ConnectionLost) else f"{type(error).__name__}: {error}"[:300]
            )

    def _shorten(self, letters: list[Letter[Any]]) -> None:
        """RabbitMQ's `max_message_size` was lowered after it accepted a message. It must not stop the others."""
        self._batch_max = 1
        if len(letters) > 1:
            return
        letters[0].shorten()
        log_rate_limited(
            *(logger, logging.WARNING, f"dead letter shortened {self._queue}"),
            "RabbitMQ accepts no dead letter of %d bytes (max_message_size): it gets the beginning of the message",
            len(letters[0].body),
        )

    def _back_off(self, reason: str) -> None:
        self._log_waiting(reason)
        self._stopping.wait(delay_s(self._failed, base_s=_BACKOFF_BASE_S, cap_s=_BACKOFF_CAP_S, random=_random))
        self._failed += 1

    def _log_waiting(self, reason: str) -> None:
        log_rate_limited(
            *(logger, logging.WARNING, f"dead letters wait {self._queue}"),
            *("%s rejected messages wait for the dead-letter queue %s: %s", len(self._book), self._queue, reason),
        )

    def _update_metrics(self) -> None:
        """Update this queue's share of the metric that all queues share."""
        self._metrics.ingress_dead_waiting += len(self._book) - self._counted
        self._counted = len(self._book)
