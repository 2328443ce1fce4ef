"""The input side of a connection: frames, packets, the packet rate and the heartbeat.

`ConnectionInput` is the base class of `Connection` instead of a separate object. A node has tens of thousands of
connections, most of them idle, so each additional object per connection costs memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from tidings.codes import CODES
from tidings.errors import BadPacket
from tidings_hub import runtime
from tidings_hub.engine.capacity.packet_rate import PacketRate, RateMount
from tidings_hub.engine.protocols import engineio, websocket
from tidings_hub.engine.protocols.engineio import (
    CLIENT_DISCONNECT,
    PING_TIMEOUT,
    TRANSPORT_CLOSE,
    PacketKind,
    TransportKind,
    UpgradeState,
)
from tidings_hub.engine.protocols.websocket import (
    SMALL_READ_BYTES,
    FrameReader,
    Message,
    Opcode,
    WebSocketViolation,
    decode_frames,
)
from tidings_hub.engine.timing_wheel import first_ping_delay_s

if TYPE_CHECKING:
    from tidings_hub.engine.limits import EngineOptions
    from tidings_hub.engine.outbuffer import OutBuffer
    from tidings_hub.engine.protocols.request_history import RequestHistory

_read = runtime.original("os").read
_READ_BYTES = 65_536
_EPOLLOUT = 4
_WEBSOCKET, _POLLING = TransportKind.WEBSOCKET, TransportKind.POLLING
_PING_FRAME = websocket.frame(Opcode.TEXT, engineio.PING)
# The part of the connect timeout that follows it. The heartbeat gives a client as much after a block of the node.
_CONNECT_GRACE = 1 / 4
_VIOLATION_REASONS = {
    websocket.PROTOCOL_ERROR: "bad_packet",
    websocket.BAD_DATA: "bad_packet",
    websocket.TOO_BIG: "too_large",
}


class ResponseWriter(Protocol):
    """An HTTP connection with a request that has no response yet."""

    extra_headers: bytes

    def respond(self, response: bytes) -> None:
        """Send a complete response. Never blocks, never raises."""

    def refuse(self, status: int, body: bytes, *, close: bool = False) -> None:
        """Respond with an error."""

    def stop_waiting(self) -> None:
        """Let the session of the request go. The request still needs a response."""

    def is_closed_by_client(self) -> bool:
        """Whether the client closed the connection without announcing that in its last request."""


class InputMount(RateMount, Protocol):
    """What the input side of a connection needs of its mount."""

    options: EngineOptions

    def on_message(self, connection: Any, data: str | bytes) -> None:
        """Pass a message of a `Connection` to the application."""


class ConnectionInput(PacketRate):
    """Decodes the client's packets, limits their rate, and closes connections whose clients do not reply to pings."""

    __slots__ = (
        "_awaits_pong", "_connect_by_s", "_cork_depth", "_heartbeat_due_s", "_reader", "_sent_at_ping", "history",
        "poll",
    )  # fmt: skip

    # Slots of `Connection`.
    mount: InputMount
    fd: int
    kind: TransportKind
    upgrade_state: UpgradeState
    out: OutBuffer | None
    closed: bool

    def __init__(self, kind: TransportKind, options: EngineOptions, history: RequestHistory) -> None:
        super().__init__()
        now_s = runtime.now_s()
        self.history = history
        self.poll: ResponseWriter | None = None
        # Number of `cork` calls without `uncork`. An event stream is corked until its head is sent.
        self._cork_depth = 1 if kind is TransportKind.SSE else 0
        # Exists only while a frame or a message is incomplete.
        self._reader: FrameReader | None = None
        # When the connect timeout expires. Negative: the end of the grace after it. 0: there is none.
        self._connect_by_s = now_s + options.connect_timeout_ms / 1000 if options.connect_timeout_ms else 0.0
        self._awaits_pong = False
        # `out.sent` at the last ping.
        self._sent_at_ping = 0
        # When to send the next ping, or when the pong must have arrived.
        self._heartbeat_due_s = now_s + first_ping_delay_s(options.ping_interval_ms / 1000)

    def write(self, blob: bytes) -> None:
        """Implemented by `Connection`."""
        raise NotImplementedError

    def send_packet(self, packet: bytes) -> None:
        """Implemented by `Connection`."""
        raise NotImplementedError

    def respond_to_poll(self, payload: bytes) -> None:
        """Implemented by `Connection`."""
        raise NotImplementedError

    def release_poll(self) -> None:
        """Implemented by `Connection`."""
        raise NotImplementedError

    def uncork(self) -> None:
        """Implemented by `Connection`."""
        raise NotImplementedError

    def flush(self) -> None:
        """Implemented by `Connection`."""
        raise NotImplementedError

    def end(self, reason: str, close_code: int, text: str | None = None, message: str | None = None) -> None:
        """Implemented by `Connection`."""
        raise NotImplementedError

    # --- bytes, frames and packets ---

    def on_event(self, mask: int) -> None:
        """Handle epoll's bits in `mask`: this connection's socket is readable, writable or broken."""
        if mask & _EPOLLOUT:
            self.flush()
        if mask & ~_EPOLLOUT and not self.closed:
            self._receive()

    def _receive(self) -> None:
        try:
            data = _read(self.fd, _READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        self._alive = True
        if not data:
            self.end(TRANSPORT_CLOSE, 0)
        elif self.kind is _WEBSOCKET:
            self.on_frames(data)
        # Bytes from the client of an event stream have no meaning after its request, so they are discarded.

    def on_frames(self, data: bytes) -> None:
        """Decode bytes received on a WebSocket and handle the complete messages."""
        if not self.count_input(len(data)):
            return
        reader = self._reader
        if reader is None:
            reader = FrameReader(self.mount.options.max_payload_bytes)
        is_small = reader.is_mid_frame and len(data) < SMALL_READ_BYTES
        messages, violation = decode_frames(reader, data)
        if is_small and not messages and not self.count_packet():
            return
        self.on_decoded(messages, reader, violation)

    def on_decoded(
        self, messages: Sequence[Message], reader: FrameReader, violation: WebSocketViolation | None
    ) -> None:
        """Handle what `decode_frames` returned, in order, and decode the rest batch by batch.

        Packets that are sent meanwhile leave in one write.
        """
        self._cork_depth += 1
        try:
            while True:
                self._reader = None if reader.is_idle else reader
                if not reader.small_fragments or self.count_packet(reader.small_fragments):
                    self._on_messages(messages)
                if self.closed or violation is not None or not reader.has_more:
                    break
                messages, violation = decode_frames(reader, b"")
        finally:
            self.uncork()
        if violation is not None and not self.closed:
            self.end(_VIOLATION_REASONS[violation.close_code], violation.close_code, str(violation))

    def _on_messages(self, messages: Sequence[Message]) -> None:
        for opcode, data in messages:
            if self.closed:
                return
            self._on_message(opcode, data)

    def _on_message(self, opcode: int, data: str | bytes) -> None:
        if not self.count_packet():
            return
        if opcode <= Opcode.BINARY:
            try:
                kind, content = engineio.decode_packet(data)
            except BadPacket as error:
                # engine.io on Node closes with 1000 here. 1002 shows that the client is at fault.
                self.end("bad_packet", websocket.PROTOCOL_ERROR, str(error))
                return
            self.on_packet(kind, content)
        elif opcode == Opcode.PING and isinstance(data, bytes):
            self.write(websocket.frame(Opcode.PONG, data))
        elif opcode == Opcode.CLOSE and isinstance(data, bytes):
            try:
                close_code = websocket.parse_close_code(data)
            except WebSocketViolation as error:
                self.end("bad_packet", error.close_code)
            else:
                self.end(TRANSPORT_CLOSE, close_code, "")

    def on_packet(self, kind: PacketKind, content: str | bytes) -> None:
        """Handle one Engine.IO packet, from either transport."""
        if kind is PacketKind.MESSAGE:
            self.mount.on_message(self, content)
        elif kind is PacketKind.PONG:
            if self.history.on_pong():
                self.refund()
                if self.history.is_held and self.history.is_proven():
                    self.release_poll()
        elif kind is PacketKind.CLOSE:
            self.respond_to_poll(engineio.NOOP)
            self.end(CLIENT_DISCONNECT, websocket.NORMAL, "")

    # --- heartbeat ---

    def mark_alive(self) -> None:
        """Mark the client as alive, because it sent a request of this session."""
        self._alive = True

    def close_if_overdue(self) -> bool:
        """Close the connection if its ping timeout has passed. Exact, unlike the wheel. Return whether it is closed."""
        is_overdue = self._awaits_pong and not self._alive and runtime.now_s() >= self._heartbeat_due_s
        if is_overdue and not self.mount.wheel.is_behind:
            self.on_deadline(runtime.now_s())
        return self.closed

    def on_deadline(self, now_s: float) -> float | None:
        """Handle a visit of the timing wheel: send a ping, or check that the client replied to the last one.

        Returns the seconds until the next visit, or None if the connection is closed.
        """
        if self._connect_by_s and now_s >= abs(self._connect_by_s):
            self._on_connect_timeout(now_s)
        elif now_s >= self._heartbeat_due_s:
            self._heartbeat(now_s)
        if self.closed:
            return None
        self.forget_full_bucket(now_s)
        return self.next_deadline_s(now_s)

    def next_deadline_s(self, now_s: float) -> float:
        """Return the seconds until this connection's next deadline."""
        return min(self._heartbeat_due_s, abs(self._connect_by_s) or self._heartbeat_due_s) - now_s

    def _on_connect_timeout(self, now_s: float) -> None:
        if self._connect_by_s < 0:
            self.close("connect_timeout")
        else:
            # If the node was blocked, CONNECT may wait in the kernel. So the pump gets turns before the end.
            self._connect_by_s = -(now_s + _CONNECT_GRACE * self.mount.options.connect_timeout_ms / 1000)

    def _heartbeat(self, now_s: float) -> None:
        options = self.mount.options
        interval_s, timeout_s = options.ping_interval_ms / 1000, options.ping_timeout_ms / 1000
        if not self._awaits_pong:
            self._awaits_pong, self._alive = True, False
            self._sent_at_ping = self.out.sent if self.out is not None else 0
            # The timeout starts when the ping was due, so the wheel's granularity does not lengthen it. If the node
            # was blocked and sends the ping much later, the client still gets at least 3/4 of the timeout.
            self._heartbeat_due_s = max(self._heartbeat_due_s, now_s - timeout_s / 4) + timeout_s
            if self.kind is _POLLING:
                self.send_packet(engineio.PING)
            else:
                self.write(_PING_FRAME)
        elif self._alive:
            self._awaits_pong = False
            self._heartbeat_due_s = max(self._heartbeat_due_s - timeout_s + interval_s, now_s)
        elif self.kind is _WEBSOCKET and self.out is not None and self.out.sent != self._sent_at_ping:
            # The client still reads data that was sent before the ping. It is slow, but alive.
            self._sent_at_ping = self.out.sent
            self._heartbeat_due_s = now_s + timeout_s
        else:
            self.end(PING_TIMEOUT, CODES["ping_timeout"].number)
