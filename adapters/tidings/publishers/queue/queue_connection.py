"""One connection of kombu to the server of a queue, over AMQP or another transport."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

# The timeout of the close handshake.
_CLOSE_S = 1.0
# A content header: class, weight and body size, then flags and properties. This flag announces a content type.
_HEADER_FRAME = 2
_HEADER_FIXED_BYTES = 12
UNREADABLE = "application/x-unreadable-properties"
_UNREADABLE_PROPERTIES = b"\x80\x00" + bytes([len(UNREADABLE)]) + UNREADABLE.encode()


@dataclass(frozen=True, slots=True)
class HostReports:
    """What decides when the host of a connection is tried the next time: whether it answered."""

    answer: Callable[[], None]
    silent: Callable[[], None]


class QueueConnection:
    """One connection, for one thread or greenlet at a time. `errors`: the types that mean it broke."""

    def __init__(self, connection: Any, raw: Any, reports: HostReports, *, amqp: bool, step_s: float) -> None:
        self._transport = connection.transport
        self._reports = reports
        self._raw = raw
        self.amqp = amqp
        self.step_s = step_s
        self._set_read_deadline(math.inf)
        # py-amqp raises AttributeError if a connection breaks while it is in use (kombu/transport/pyamqp.py).
        self.errors: tuple[type[Exception], ...] = (
            *(*connection.connection_errors, *connection.channel_errors),
            *(OSError, AttributeError),
        )

    def channel(self) -> Any:
        """A new channel (kombu's interface)."""
        channel = self._transport.create_channel(self._raw)
        self._reports.answer()
        return channel

    def report_failure(self) -> None:
        """The connection broke or hangs: later ones try the other hosts first."""
        self._reports.silent()

    def drain(self, timeout_s: float) -> None:
        """Wait for the next event from the server and handle it.

        Raises:
            TimeoutError: no event for `timeout_s`. One of `errors`: the connection broke.
        """
        # Not 0: then py-amqp would spin while only half a frame has arrived.
        step_s = max(timeout_s, 0.001)
        with self.reads_within(step_s):
            self._transport.drain_events(self._raw, timeout=step_s)

    @contextmanager
    def reads_within(self, seconds: float) -> Iterator[None]:
        """Within the block, AMQP reads for so long in all. A read that takes longer raises TimeoutError."""
        earlier_s = self._read_deadline_s
        self._set_read_deadline(min(earlier_s, time.monotonic() + seconds))
        try:
            yield
        finally:
            self._set_read_deadline(earlier_s)

    def _set_read_deadline(self, end_s: float) -> None:
        self._read_deadline_s = end_s
        if self.amqp:
            self._raw.read_deadline_s = end_s

    def set_timeout(self, timeout_s: float) -> None:
        """Set the timeout of each later step, where the transport supports it.

        Raises:
            OSError: the connection is closed. py-amqp itself would silently open a new one.
        """
        if self.amqp:
            if not self._raw.connected:
                raise ConnectionResetError("the connection was closed")
            self._raw.transport.sock.settimeout(timeout_s)

    def on_blocked(self, callback: Any) -> None:
        """Call `callback(reason)` when RabbitMQ blocks publishers (an alarm), `callback("")` when it unblocks them."""
        if self.amqp:
            self._raw.on_blocked = callback
            self._raw.on_unblocked = lambda: callback("")
            # Otherwise py-amqp checks for it before each publish, in the spinning way described above.
            self._raw.client_properties.setdefault("capabilities", {})["connection.blocked"] = False

    def tolerate_malformed_properties(self) -> None:
        """Deliver a message without its properties if py-amqp cannot decode them.

        Otherwise the connection breaks at this message, and at every redelivery of it. Examples are tables in 10,000
        tables, a date in the year 500,000, and text that is not UTF-8.
        """
        if self.amqp:
            self._raw.on_inbound_frame = _tolerant(self._raw.on_inbound_frame)

    def send_heartbeat(self) -> None:
        """Send a heartbeat without a check of the server's, while nothing is received on purpose."""
        if self.amqp:
            self._raw.send_heartbeat()

    def check_heartbeat(self) -> None:
        """Send a heartbeat if one is due, and check the server's. Call it every second.

        Raises:
            One of `errors`: the server sent none for too long.
        """
        self._transport.heartbeat_check(self._raw)

    def close(self) -> None:
        """Close the connection with AMQP's close handshake. Idempotent."""
        try:
            self.set_timeout(_CLOSE_S)
            with self.reads_within(_CLOSE_S):
                self._transport.close_connection(self._raw)
        except self.errors:
            self.drop()

    def drop(self) -> None:
        """Close a broken connection without a handshake."""
        # Errors while closing a broken connection have no remedy.
        with suppress(*self.errors):
            if self.amqp:
                self._raw.collect()
            else:
                self._transport.close_connection(self._raw)


def _tolerant(on_frame: Callable[[tuple[int, int, Any]], bool]) -> Callable[[tuple[int, int, Any]], bool]:
    """py-amqp's frame handler, which survives a content header that it cannot decode (AMQP 0-9-1 section 4.2.6.1)."""

    def on_tolerated_frame(frame: tuple[int, int, Any]) -> bool:
        frame_type, channel, buffer = frame
        if frame_type != _HEADER_FRAME:
            return on_frame(frame)
        try:
            return on_frame(frame)
        except Exception:  # noqa: BLE001 - whatever the decoder raises; a second failure is raised
            # py-amqp changes no state before the properties are decoded, so that the header can be handed in again.
            return on_frame((frame_type, channel, bytes(buffer[:_HEADER_FIXED_BYTES]) + _UNREADABLE_PROPERTIES))

    return on_tolerated_frame
