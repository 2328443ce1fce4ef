"""Messages into a queue, with the proof that the queue has them, and always with a deadline.

On AMQP the proof is a publisher confirm, which RabbitMQ gives once the message is on disk; many messages
are sent first and their confirms awaited together. Elsewhere it is that the transport's call returned.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tidings.errors import TidingsError
from tidings.publishers.queue.address import QueueAddress, QueueConnection, is_refusal
from tidings.redis_client.connection import CONNECT_TIMEOUT_S, IDLE_MAX, ConnectionLost, reason_of
from tidings.wire.queue_message import CONTENT_TYPE

_PERSISTENT = 2


@dataclass(frozen=True, slots=True)
class QueueMessage:
    """One message for a queue: `id` is the publication's, `headers` are strings."""

    queue: str
    body: bytes
    id: str
    headers: Mapping[str, str] = field(default_factory=dict)


class QueueProducer:
    """One connection that publishes; one call at a time.

    Raises:
        LineDown: nobody answers within `timeout_s`, or the login is refused.
    """

    def __init__(self, address: QueueAddress, *, timeout_s: float) -> None:
        self._address = address
        try:
            self._connection: QueueConnection = address.connect(timeout_s=timeout_s)
        except TidingsError:
            raise
        except Exception as error:
            raise _not_reached(address, error) from error
        self.step_s = self._connection.step_s
        self._tag = 0
        # On AMQP: which message has which delivery tag, until its confirm comes.
        self._waiting: dict[int, int] = {}
        self._refused: dict[int, str] = {}
        self._blocked = ""
        try:
            self._connection.set_timeout(timeout_s)
            self._channel: Any = self._connection.channel()
            if address.amqp:
                self._confirm()
        except self._connection.errors as error:
            self.drop()
            raise _not_reached(address, error) from error
        except BaseException:
            self.drop()
            raise

    def _confirm(self) -> None:
        self._connection.on_blocked(self._hear_blocked)
        self._channel.confirm_select()
        self._channel.events["basic_ack"].add(self._acked)
        self._channel.events["basic_nack"].add(self._nacked)
        self._channel.events["basic_return"].add(self._returned)

    def send(self, messages: Sequence[QueueMessage], *, deadline_s: float) -> dict[int, str]:
        """Publish all, in order; returns why some were refused, by their place. The queue has all others.

        `deadline_s` is a time of `time.monotonic`.

        Raises:
            LineDown: the connection broke, or the deadline passed; the queue may have any of them.
        """
        self._waiting, self._refused = {}, {}
        try:
            for place, letter in enumerate(messages):
                self._limit(deadline_s)
                self._publish(place, letter)
            while self._waiting:
                self._connection.drain(self._limit(deadline_s))
        except self._connection.errors as error:
            self.drop()
            if is_refusal(error):
                raise ConnectionLost(
                    f"{self._address} refused it ({reason_of(error)})", sent=False, final=True
                ) from error
            raise ConnectionLost(f"{self._address} did not answer ({self._reason(error)})", sent=True) from error
        except BaseException:
            self.drop()
            raise
        return self._refused

    def _publish(self, place: int, letter: QueueMessage) -> None:
        self._tag += 1
        message = self._channel.prepare_message(
            letter.body,
            content_type=CONTENT_TYPE,
            content_encoding="binary",
            headers=dict(letter.headers),
            # What comes back is known by its number: the same id may go to several channels at once.
            properties={"delivery_mode": _PERSISTENT, "message_id": letter.id, "correlation_id": str(self._tag)},
        )
        if self._address.amqp:
            self._waiting[self._tag] = place
        self._channel.basic_publish(message, exchange="", routing_key=letter.queue, mandatory=True)

    def _limit(self, deadline_s: float) -> float:
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("no time left")
        self._connection.set_timeout(left_s)
        return left_s

    def _acked(self, tag: int, multiple: bool) -> None:
        for settled in self._settled(tag, multiple=multiple):
            self._waiting.pop(settled, None)

    def _nacked(self, tag: int, multiple: bool) -> None:
        for settled in self._settled(tag, multiple=multiple):
            place = self._waiting.pop(settled, None)
            if place is not None:
                self._refused[place] = "the queue is full, or its server could not keep the message"

    def _settled(self, tag: int, *, multiple: bool) -> list[int]:
        return [one for one in self._waiting if one <= tag] if multiple else [tag]

    def _returned(self, _error: Exception, _exchange: str, queue: str, message: Any) -> None:
        """The message reached no queue; its confirm comes next."""
        place = self._waiting.get(int(message.properties.get("correlation_id", 0)))
        if place is not None:
            self._refused[place] = f"there is no queue {queue!r}; a hub with `ingress` makes it when it starts"

    def _hear_blocked(self, reason: str) -> None:
        self._blocked = reason

    def _reason(self, error: Exception) -> str:
        text = reason_of(error)
        return f"{text}; {self._blocked}" if self._blocked else text

    def close(self) -> None:
        """Close the connection. Idempotent."""
        self._connection.close()

    def drop(self) -> None:
        """Give the connection up, which may be broken."""
        self._connection.drop()


class QueueProducerPool:
    """Connections to one queue's server, for any number of threads or greenlets. Holds no lock: see `line.Lines`."""

    def __init__(self, address: QueueAddress) -> None:
        self.address = address
        self._idle: deque[QueueProducer] = deque()
        self._pid = os.getpid()

    def send(self, messages: Sequence[QueueMessage], *, deadline_s: float) -> dict[int, str]:
        """As `QueueLink.send`, on an idle connection or a new one."""
        link = self._acquire(deadline_s)
        refused = link.send(messages, deadline_s=deadline_s)
        if len(self._idle) < IDLE_MAX and self._pid == os.getpid():
            self._idle.append(link)
        else:
            link.close()
        return refused

    def _acquire(self, deadline_s: float) -> QueueProducer:
        if self._pid != os.getpid():
            # The parent goes on using its connections; ours are copies of them, and must not say goodbye.
            self._idle = deque()
            self._pid = os.getpid()
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            raise ConnectionLost(f"{self.address}: no time left to connect", sent=False)
        while self._idle:
            try:
                link = self._idle.pop()
            except IndexError:
                # Another thread took the last one in between.
                break
            if self.address.amqp or link.step_s <= left_s:
                return link
            # Its steps may take longer than the time that is left.
            link.close()
        return QueueProducer(self.address, timeout_s=min(left_s, CONNECT_TIMEOUT_S))

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().close()

    def drop_idle(self) -> None:
        """Drop the idle connections: one of them was broken, so most likely all are."""
        while self._idle:
            self._idle.pop().drop()


def _not_reached(address: QueueAddress, error: Exception) -> ConnectionLost:
    reason = reason_of(error)
    if is_refusal(error):
        return ConnectionLost(f"{address} refused the connection ({reason})", sent=False, final=True)
    return ConnectionLost(f"{address} cannot be reached ({reason})", sent=False)
