"""Producers that send messages to a queue and wait until it has them. Every call has a deadline.

Over AMQP they wait for publisher confirms, which RabbitMQ sends once a message is on disk. All messages of a call are
sent first. With other transports a message counts as sent when the transport's call returns.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tidings.errors import TidingsError
from tidings.publishers.queue.address import QueueAddress, is_refusal
from tidings.publishers.queue.queue_connection import QueueConnection
from tidings.redis_client.connection import CONNECT_TIMEOUT_S, IDLE_MAX, ConnectionLost, reason_of
from tidings.wire.queue_message import CONTENT_TYPE

_PERSISTENT = 2
# Longest wait in one write of `send_patiently`.
_WRITE_S = 10.0
# Longest time between two heartbeat checks of `send_patiently`.
_CONFIRM_STEP_S = 0.5


@dataclass(frozen=True, slots=True)
class QueueMessage:
    """One message for a queue. `id`: the publication's. `headers`: strings."""

    queue: str
    body: bytes
    id: str
    headers: Mapping[str, str] = field(default_factory=dict)


class QueueProducer:
    """One connection that publishes, for one call at a time. `heartbeat_s`: see `QueueAddress.connect`.

    Raises:
        ConnectionLost: no connection within `timeout_s`, or the login was rejected.
    """

    def __init__(self, address: QueueAddress, *, timeout_s: float, heartbeat_s: float = 0.0) -> None:
        self._address = address
        end_s = time.monotonic() + timeout_s
        try:
            self._connection: QueueConnection = address.connect(timeout_s=timeout_s, heartbeat_s=heartbeat_s)
        except TidingsError:
            raise
        except Exception as error:
            raise _connect_failed(address, error) from error
        self.step_s = self._connection.step_s
        self._tag = 0
        # Over AMQP: the index of each message by its delivery tag, until its confirm arrives.
        self._unconfirmed: dict[int, int] = {}
        self._rejected: dict[int, str] = {}
        self._blocked = ""
        try:
            # Another host has time left if this one hangs after the login.
            step_s = max(0.001, min(end_s - time.monotonic(), 2 * self.step_s))
            self._connection.set_timeout(step_s)
            with self._connection.reads_within(step_s):
                self._channel: Any = self._connection.channel()
                if address.amqp:
                    self._enable_confirms()
        except TidingsError:
            self.drop()
            raise
        except Exception as error:
            self._connection.report_failure()
            # Transports raise errors of their own, such as those of SQLAlchemy for kombu+sqlalchemy.
            self.drop()
            raise _connect_failed(address, error) from error
        except BaseException:
            self.drop()
            raise

    def _enable_confirms(self) -> None:
        self._connection.on_blocked(self._on_blocked)
        self._channel.confirm_select()
        self._channel.events["basic_ack"].add(self._on_ack)
        self._channel.events["basic_nack"].add(self._on_nack)
        self._channel.events["basic_return"].add(self._on_return)

    def send(self, messages: Sequence[QueueMessage], *, deadline_s: float) -> dict[int, str]:
        """Publish all messages, in order. Returns the reasons of rejected ones by index; the queue has the others.

        `deadline_s` is a time of `time.monotonic`.

        Raises:
            ConnectionLost: the connection broke, or the deadline passed. The queue may have any of the messages.
        """
        self._unconfirmed, self._rejected = {}, {}
        with self._dropped_on_error(), self._connection.reads_within(deadline_s - time.monotonic()):
            for index, message in enumerate(messages):
                self._set_timeout(deadline_s)
                self._publish(index, message)
            while self._unconfirmed:
                self._connection.drain(self._set_timeout(deadline_s))
        return self._rejected

    def send_patiently(self, messages: Sequence[QueueMessage], *, is_abandoned: Callable[[], bool]) -> dict[int, str]:
        """As `send`, but wait for the confirms as long as the connection works. It needs a `heartbeat_s`.

        While RabbitMQ blocks publishers, it does not read what this connection sent. It reads that later, even if the
        connection is closed by then. So a connection that gives up and sends again makes duplicates.

        Raises:
            ConnectionLost: the connection broke, or `is_abandoned` returned true. The queue may have any of them.
        """
        self._unconfirmed, self._rejected = {}, {}
        with self._dropped_on_error():
            for index, message in enumerate(messages):
                self._connection.set_timeout(_WRITE_S)
                self._publish(index, message)
            while self._unconfirmed:
                if is_abandoned():
                    raise TimeoutError("the wait for a confirm was abandoned")
                self.keep_alive(_CONFIRM_STEP_S)
        return self._rejected

    def keep_newest(self, queue: str, count: int) -> None:
        """Remove all but the newest `count` messages of a Redis list. Other queues have a limit of their own, or none.

        Raises:
            ConnectionLost: the connection broke.
        """
        if "BRPOP" in getattr(self._channel, "handlers", ()):
            with self._dropped_on_error(), self._channel.conn_or_acquire() as client:
                # kombu adds at the left end.
                client.ltrim(queue, 0, count - 1)

    def keep_alive(self, wait_s: float) -> None:
        """Handle what arrives within `wait_s`, and send and check heartbeats. Call it every second.

        Raises:
            One of the connection's `errors`: it broke.
        """
        if not self._address.amqp:
            return
        self._connection.check_heartbeat()
        try:
            self._connection.drain(wait_s)
        except TimeoutError:
            # Nothing arrived. A broken connection raises another error, or misses its heartbeats.
            return

    @contextmanager
    def _dropped_on_error(self) -> Iterator[None]:
        """Drop the connection after any error, and raise ConnectionLost for those of the connection."""
        try:
            yield
        except self._connection.errors as error:
            self._connection.report_failure()
            self.drop()
            if is_refusal(error):
                raise ConnectionLost(
                    f"{self._address} rejected it ({reason_of(error)})", sent=False, final=True
                ) from error
            raise ConnectionLost(f"{self._address} did not answer ({self._reason(error)})", sent=True) from error
        except Exception as error:
            self.drop()
            if self._address.amqp:
                raise
            raise ConnectionLost(f"{self._address} failed ({self._reason(error)})", sent=True) from error
        except BaseException:
            self.drop()
            raise

    @property
    def blocked(self) -> str:
        """Why RabbitMQ blocks this connection (an alarm); empty if it does not."""
        return self._blocked

    def _publish(self, index: int, message: QueueMessage) -> None:
        self._tag += 1
        prepared = self._channel.prepare_message(
            message.body,
            content_type=CONTENT_TYPE,
            content_encoding="binary",
            headers=dict(message.headers),
            # Returned messages are matched by number, because one id may be published to several channels.
            properties={"delivery_mode": _PERSISTENT, "message_id": message.id, "correlation_id": str(self._tag)},
        )
        if self._address.amqp:
            self._unconfirmed[self._tag] = index
        self._channel.basic_publish(prepared, exchange="", routing_key=message.queue, mandatory=True)

    def _set_timeout(self, deadline_s: float) -> float:
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("no time left")
        self._connection.set_timeout(left_s)
        return left_s

    def _on_ack(self, tag: int, multiple: bool) -> None:
        for confirmed in self._confirmed_tags(tag, multiple=multiple):
            self._unconfirmed.pop(confirmed, None)

    def _on_nack(self, tag: int, multiple: bool) -> None:
        for confirmed in self._confirmed_tags(tag, multiple=multiple):
            index = self._unconfirmed.pop(confirmed, None)
            if index is not None:
                self._rejected[index] = "the queue is full, or its server could not store the message"

    def _confirmed_tags(self, tag: int, *, multiple: bool) -> list[int]:
        return [earlier for earlier in self._unconfirmed if earlier <= tag] if multiple else [tag]

    def _on_return(self, _error: Exception, _exchange: str, queue: str, message: Any) -> None:
        """The message reached no queue. Its confirm comes next."""
        index = self._unconfirmed.get(int(message.properties.get("correlation_id", 0)))
        if index is not None:
            self._rejected[index] = f"there is no queue {queue!r}; a hub with `ingress` creates it when it starts"

    def _on_blocked(self, reason: str) -> None:
        self._blocked = reason

    def _reason(self, error: Exception) -> str:
        text = reason_of(error)
        return f"{text}; {self._blocked}" if self._blocked else text

    def close(self) -> None:
        """Close the connection. Idempotent."""
        self._connection.close()

    def drop(self) -> None:
        """Close the connection without a handshake; it may be broken."""
        self._connection.drop()


class QueueProducerPool:
    """Producers for one queue, shared by threads or greenlets. As `RedisPool` it has no lock."""

    def __init__(self, address: QueueAddress) -> None:
        self.address = address
        self._idle: deque[QueueProducer] = deque()
        self._pid = os.getpid()

    def send(self, messages: Sequence[QueueMessage], *, deadline_s: float) -> dict[int, str]:
        """As `QueueProducer.send`, on an idle producer or a new one."""
        producer = self._acquire(deadline_s)
        rejected = producer.send(messages, deadline_s=deadline_s)
        if len(self._idle) < IDLE_MAX and self._pid == os.getpid():
            self._idle.append(producer)
        else:
            producer.close()
        return rejected

    def _acquire(self, deadline_s: float) -> QueueProducer:
        if self._pid != os.getpid():
            # Forked: the parent still uses the connections, so their copies here must not be closed with a handshake.
            self._idle = deque()
            self._pid = os.getpid()
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            raise ConnectionLost(f"{self.address}: no time left to connect", sent=False)
        while self._idle:
            try:
                producer = self._idle.pop()
            except IndexError:
                # Another thread took the last one in between.
                break
            if self.address.amqp or producer.step_s <= left_s:
                return producer
            # Its steps may take longer than the remaining time.
            producer.close()
        return QueueProducer(self.address, timeout_s=min(left_s, CONNECT_TIMEOUT_S))

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().close()

    def drop_idle(self) -> None:
        """Drop the idle connections: one was broken, so most likely all are."""
        while self._idle:
            self._idle.pop().drop()


def _connect_failed(address: QueueAddress, error: Exception) -> ConnectionLost:
    reason = reason_of(error)
    if is_refusal(error):
        return ConnectionLost(f"{address} rejected the connection ({reason})", sent=False, final=True)
    return ConnectionLost(f"{address} cannot be reached ({reason})", sent=False)
