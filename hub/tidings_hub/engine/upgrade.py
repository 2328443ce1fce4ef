"""The upgrade of a session from polling to a WebSocket: `2probe`, `3probe`, `5`.

The session stays on polling until the client sends `5`. Packets before that are sent in response to polls as usual.
Packets that still wait at the upgrade are sent on the WebSocket, in order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidings.errors import BadPacket
from tidings_hub import runtime
from tidings_hub.core.frame import SEPARATOR, text_frame
from tidings_hub.engine.outbuffer import OutBuffer
from tidings_hub.engine.protocols import engineio, http_response, websocket
from tidings_hub.engine.protocols.engineio import ProbeAction, TransportKind, UpgradeState
from tidings_hub.engine.protocols.websocket import FrameReader, Message, Opcode, WebSocketViolation

if TYPE_CHECKING:
    from tidings_hub.engine.connection import Connection

_os = runtime.original("os")
_READ_BYTES = 65_536
_PONG_FRAME = text_frame(engineio.PROBE_PONG)


class UpgradeProbe:
    """A WebSocket that is not upgraded yet. It owns the descriptor until the upgrade."""

    __slots__ = ("_close_frame", "_connection", "_fd", "_reader", "slot")

    def __init__(self, connection: Connection, fd: int) -> None:
        self.slot = -1
        self._connection = connection
        self._fd = fd
        self._reader: FrameReader | None = None
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
        messages: list[Message] = []
        reader = self._reader = self._reader or FrameReader(connection.mount.options.max_payload_bytes)
        violation: WebSocketViolation | None = None
        try:
            reader.feed(data, messages)
        except WebSocketViolation as error:
            violation = error
        for index, (opcode, content) in enumerate(messages):
            if self._fd < 0:
                return
            connection.mark_alive()
            if opcode > Opcode.BINARY:
                self._on_control_frame(opcode, content)
                continue
            try:
                action = engineio.probe_action(connection.upgrade_state, content)
            except BadPacket:
                self._abandon(websocket.PROTOCOL_ERROR)
                return
            if action is ProbeAction.SEND_PONG:
                self._send_pong()
            elif connection.closed:
                self._send_close_payloads()
                return
            else:
                # The client's first messages may arrive together with its `5`.
                self._upgrade(messages[index + 1 :], reader, violation)
                return
        if violation is not None:
            self._abandon(violation.close_code)

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
        poll = connection.poll
        if poll is not None and self._fd >= 0:
            # The client waits for the response to its poll before it sends `5`.
            connection.poll = None
            poll.respond(http_response.render(200, engineio.NOOP, extra_headers=poll.extra_headers))

    def _upgrade(self, messages: list[Message], reader: FrameReader, violation: WebSocketViolation | None) -> None:
        connection = self._connection
        mount = connection.mount
        fd, self._fd = self._fd, -1
        mount.wheel.cancel(self)
        connection.upgrade_probe = None
        poll, connection.poll = connection.poll, None
        if poll is not None:
            poll.respond(http_response.render(200, engineio.NOOP, extra_headers=poll.extra_headers))
        out, connection.out = connection.out, None
        connection.fd, connection.kind = fd, TransportKind.WEBSOCKET
        connection.upgrade_state = UpgradeState.UPGRADED
        mount.pump.reassign(fd, connection)
        mount.on_upgraded()
        if out is not None and out.parts:
            # One part may hold several packets that were joined for polling.
            packets = SEPARATOR.join(out.parts).split(SEPARATOR)
            connection.write(b"".join(map(engineio.packet_to_frame, packets)))
        connection.on_decoded(messages, reader, violation)

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
                    out.add(engineio.packet_to_frame(packet))
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
