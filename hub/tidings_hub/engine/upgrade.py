"""The upgrade of a session from polling to a WebSocket: `2probe`, `3probe`, `5`.

The session stays on polling until the client sends `5`. Packets before that are sent in response to polls as usual.
Packets that still wait at the upgrade are sent on the WebSocket, in order.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from tidings.codes import CODES
from tidings.errors import BadPacket
from tidings_hub import runtime
from tidings_hub.core.frame import SEPARATOR, text_frame
from tidings_hub.engine.capacity.waiting_tiers import LAST_TIER, waiting_tier
from tidings_hub.engine.outbuffer import OutBuffer
from tidings_hub.engine.protocols import engineio, websocket
from tidings_hub.engine.protocols.engineio import TRANSPORT_CLOSE, ProbeAction, TransportKind, UpgradeState
from tidings_hub.engine.protocols.http_query import parse_query
from tidings_hub.engine.protocols.websocket import SMALL_READ_BYTES, FrameReader, Opcode, decode_frames
from tidings_hub.log import log_rate_limited

if TYPE_CHECKING:
    from tidings_hub.engine.connection import Connection
    from tidings_hub.engine.protocols.http_request import RequestHead

_os = runtime.original("os")
_READ_BYTES = 65_536
_PONG_FRAME = text_frame(engineio.PROBE_PONG)


def log_missing_upgrade(log: logging.Logger, head: RequestHead) -> None:
    """Log that a proxy drops the upgrade of WebSockets, if it does: clients use long polling then, without a reason."""
    fields = parse_query(head)
    if fields and fields.get("transport") == "websocket" and head.method == "GET" and not head.wants_websocket:
        log_rate_limited(
            log,
            logging.WARNING,
            "missing upgrade",
            "a request for a WebSocket has no `Upgrade: websocket`: the proxy in front of this node drops the header,"
            " so clients use long polling. It must forward Upgrade and Connection, over HTTP/1.1",
        )


class UpgradeProbe:
    """A WebSocket that is not upgraded yet. It owns the descriptor until the upgrade."""

    __slots__ = ("_close_frame", "_connection", "_fd", "_reader", "_started_s", "slot")

    def __init__(self, connection: Connection, fd: int) -> None:
        self.slot = -1
        self._connection = connection
        self._fd = fd
        self._reader: FrameReader | None = None
        self._started_s = runtime.now_s()
        # The close frame to send after the client's `5`. Set if the session was closed before the upgrade.
        self._close_frame = b""
        connection.upgrade_state = UpgradeState.PROBING
        connection.upgrade_probe = self
        connection.mount.wheel.schedule(self, connection.mount.limits.upgrade_timeout_s)

    def on_event(self, _mask: int) -> None:
        """Read from the socket, or handle its end."""
        try:
            data = _os.read(self._fd, _READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._abandon(0)
            return
        self.on_frames(data)

    def abort(self) -> None:
        """Close the WebSocket after an internal error. The session stays on polling."""
        self._abandon(websocket.PROTOCOL_ERROR)

    def waiting_rank(self, now_s: float) -> tuple[int, float] | None:
        """The order in which waiting sockets are closed for new ones; see `ResponseSocket.waiting_rank`."""
        if self._connection.upgrade_state is UpgradeState.PROBING:
            # Without the probe, the client stays on polling.
            return waiting_tier(now_s - self._started_s), self._started_s
        return LAST_TIER, self._started_s

    def close(self, close_code: int, text: str) -> None:
        """Close the WebSocket, because its session was closed. A `close_code` of 0 closes it with 1000 and no text.

        engine.io-client stops polling when it receives `3probe`. If the WebSocket closed before the client sends `5`,
        the client would not notice until its ping timeout. So the close frame is sent after the `5` and after the
        session's last packets.
        """
        if self._connection.upgrade_state is UpgradeState.PROBED:
            self._close_frame = websocket.close_frame(close_code or websocket.NORMAL, text if close_code else "")
        else:
            self._abandon(websocket.NORMAL)

    def on_deadline(self, _now_s: float) -> float | None:
        """Close the WebSocket because the client did not finish the upgrade in time."""
        if not self._connection.closed:
            self._connection.mount.metrics.upgrade_timeouts += 1
        self._abandon(websocket.NORMAL)
        return None

    def on_frames(self, data: bytes) -> None:
        """Decode received bytes and handle the packets of the upgrade."""
        connection = self._connection
        if not connection.count_input(len(data)):
            self._abandon(websocket.NORMAL)
            return
        reader = self._reader = self._reader or FrameReader(connection.mount.options.max_payload_bytes)
        cost = int(reader.is_mid_frame and len(data) < SMALL_READ_BYTES)
        while self._fd >= 0:
            messages, violation = decode_frames(reader, data)
            data = b""
            # The connection counts what `on_decoded` gets.
            fragments, reader.small_fragments = reader.small_fragments, 0
            if cost + fragments and not self._count(cost + fragments):
                return
            cost = 0
            for index, (opcode, content) in enumerate(messages):
                if not self._on_message(opcode, content):
                    # The client's first messages may arrive together with its `5`.
                    if connection.kind is TransportKind.WEBSOCKET and not connection.closed:
                        connection.on_decoded(messages[index + 1 :], reader, violation)
                    return
            if violation is not None:
                self._abandon(violation.close_code)
            elif not reader.has_more:
                return

    def _on_message(self, opcode: int, content: str | bytes) -> bool:
        """Handle one message. Return whether this object still owns the descriptor."""
        connection = self._connection
        connection.mark_alive()
        if opcode > Opcode.BINARY:
            if self._count(1):
                self._on_control_frame(opcode, content)
            return self._fd >= 0
        try:
            action = engineio.probe_action(connection.upgrade_state, content)
        except BadPacket:
            self._abandon(websocket.PROTOCOL_ERROR)
            return False
        if action is ProbeAction.SEND_PONG:
            self._send_pong()
        else:
            if connection.history.is_held:
                # Nothing proves that the last response to a poll arrived. A client waits for it before it sends `5`.
                connection.end(TRANSPORT_CLOSE, 0)
            if connection.closed:
                self._send_close_payloads()
            else:
                self._upgrade()
        return self._fd >= 0

    def _count(self, cost: int) -> bool:
        """Count frames against the inbound rate of the session. Return whether there was room for them."""
        if self._connection.count_packet(cost):
            return True
        self._abandon(CODES["too_fast"].number)
        return False

    def _on_control_frame(self, opcode: int, content: str | bytes) -> None:
        if opcode == Opcode.CLOSE:
            self._abandon(websocket.NORMAL)
        elif opcode == Opcode.PING and isinstance(content, bytes):
            self._write(websocket.frame(Opcode.PONG, content))

    def _write(self, blob: bytes) -> None:
        # These are a few bytes for an empty socket buffer. If they do not fit at once, the client misbehaves.
        try:
            is_complete = _os.write(self._fd, blob) == len(blob)
        except OSError:
            is_complete = False
        if not is_complete:
            self._abandon(0)

    def _send_pong(self) -> None:
        connection = self._connection
        connection.upgrade_state = UpgradeState.PROBED
        self._write(_PONG_FRAME)
        if self._fd >= 0 and not connection.history.is_held:
            # The client waits for the response to its poll before it sends `5`.
            connection.respond_to_poll(engineio.NOOP)

    def _upgrade(self) -> None:
        connection = self._connection
        mount = connection.mount
        fd, self._fd = self._fd, -1
        mount.wheel.cancel(self)
        connection.upgrade_probe = None
        out = connection.leave_polling(fd)
        mount.pump.reassign(fd, connection)
        mount.on_upgraded()
        if out is not None and out.parts:
            # One part may hold several packets that were joined for polling.
            packets = SEPARATOR.join(out.parts).split(SEPARATOR)
            is_text_only = connection.is_text_only
            frames = [engineio.packet_to_frame(packet, is_text_only=is_text_only) for packet in packets]
            connection.write(b"".join(frames))

    def _send_close_payloads(self) -> None:
        connection = self._connection
        mount = connection.mount
        fd, self._fd = self._fd, -1
        mount.wheel.cancel(self)
        out = OutBuffer()
        # Earlier polls may have fetched some or all of them.
        while (payload := mount.close_payloads.pop(connection.sid)) is not None:
            for packet in payload.split(SEPARATOR):
                if packet != engineio.CLOSE:
                    out.add(engineio.packet_to_frame(packet, is_text_only=connection.is_text_only))
        mount.pump.linger(fd, out, self._close_frame)

    def _abandon(self, close_code: int) -> None:
        """Close the WebSocket with a close code, or without one if it is 0. The session stays on polling."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        connection = self._connection
        connection.mount.wheel.cancel(self)
        if connection.upgrade_probe is self:
            connection.upgrade_probe = None
            connection.upgrade_state = UpgradeState.POLLING
        if close_code:
            connection.mount.pump.linger(fd, None, websocket.close_frame(close_code))
        else:
            connection.mount.pump.close(fd)
