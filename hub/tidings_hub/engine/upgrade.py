"""A WebSocket that asks to take over a polling session: probe, answer, upgrade.

Polling stays the session's transport until the client's `5`: what is sent meanwhile waits
for polls as before, and goes to the WebSocket, in order, with the upgrade.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidings.errors import BadPacket
from tidings_hub import runtime
from tidings_hub.core.frame import SEPARATOR, text_frame
from tidings_hub.engine import engineio as protocol
from tidings_hub.engine import http, websocket
from tidings_hub.engine.engineio import Kind, Phase, Probe
from tidings_hub.engine.outbuffer import OutBuffer
from tidings_hub.engine.websocket import Message, Opcode, Reader, Violation

if TYPE_CHECKING:
    from tidings_hub.engine.connection import Connection

_os = runtime.original("os")
_READ_BYTES = 65_536
# Probe packets are a few bytes; the first messages after `5` may come in the same read.
_ANSWER = text_frame(protocol.PROBE_PONG)


class Probing:
    """Owns the WebSocket's descriptor until the session takes it over."""

    __slots__ = ("_close_frame", "_connection", "_fd", "_reader", "slot")

    def __init__(self, connection: Connection, fd: int) -> None:
        self.slot = -1
        self._connection = connection
        self._fd = fd
        self._reader: Reader | None = None
        # What ends the WebSocket of a session that is closed.
        self._close_frame = b""
        connection.phase = Phase.PROBING
        connection.probe = self
        connection.mount.wheel.put(self, connection.mount.limits.upgrade_timeout_s)

    def event(self, _mask: int) -> None:
        """The pump: bytes, or the end."""
        try:
            data = _os.read(self._fd, _READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._give_up(0)
            return
        self.hear_frames(data)

    def abort(self) -> None:
        """Something of ours failed: the session stays on polling."""
        self._give_up(websocket.PROTOCOL_ERROR)

    def close(self, number: int, text: str) -> None:
        """The session has ended, with a close code for the client (0: none) and a text.

        engine.io-client stops polling at the pong and never begins again: a WebSocket that is closed before its `5`
        leaves it deaf until its ping timeout. So the end waits for that, and comes with the last words.
        """
        if self._connection.phase is Phase.PROBED:
            self._close_frame = websocket.close_frame(number or websocket.NORMAL, text if number else "")
        else:
            self._give_up(websocket.NORMAL)

    def due(self, _now_s: float) -> float | None:
        """The wheel: the client did not go on."""
        if not self._connection.closed:
            self._connection.mount.metrics.upgrade_timeouts += 1
        self._give_up(websocket.NORMAL)
        return None

    def hear_frames(self, data: bytes) -> None:
        """Frames of the probe."""
        connection = self._connection
        messages: list[Message] = []
        reader = self._reader = self._reader or Reader(connection.mount.options.max_payload_bytes)
        violation: Violation | None = None
        try:
            reader.feed(data, messages)
        except Violation as error:
            violation = error
        for at, (opcode, content) in enumerate(messages):
            if self._fd < 0:
                return
            connection.seen()
            if opcode > Opcode.BINARY:
                self._control(opcode, content)
                continue
            try:
                step = protocol.probe(connection.phase, content)
            except BadPacket:
                self._give_up(websocket.PROTOCOL_ERROR)
                return
            if step is Probe.ANSWER:
                self._answer()
            elif connection.closed:
                self._say_goodbye()
                return
            else:
                self._upgrade(messages[at + 1 :], reader, violation)
                return
        if violation is not None:
            self._give_up(violation.number)

    def _control(self, opcode: int, content: str | bytes) -> None:
        if opcode == Opcode.CLOSE:
            self._give_up(websocket.NORMAL)
        elif opcode == Opcode.PING and isinstance(content, bytes):
            self._write(websocket.frame(Opcode.PONG, content))

    def _write(self, blob: bytes) -> None:
        # A few bytes into an empty socket buffer: what does not fit at once belongs to no honest client.
        try:
            whole = _os.write(self._fd, blob) == len(blob)
        except OSError:
            whole = False
        if not whole:
            self._give_up(0)

    def _answer(self) -> None:
        connection = self._connection
        connection.phase = Phase.PROBED
        self._write(_ANSWER)
        poll = connection.poll
        if poll is not None and self._fd >= 0:
            # The client goes on when its poll has come back.
            connection.poll = None
            poll.answer(http.response(200, protocol.NOOP, extra=poll.extra))

    def _upgrade(self, rest: list[Message], reader: Reader, violation: Violation | None) -> None:
        connection = self._connection
        mount = connection.mount
        fd, self._fd = self._fd, -1
        mount.wheel.drop(self)
        connection.probe = None
        poll, connection.poll = connection.poll, None
        if poll is not None:
            poll.answer(http.response(200, protocol.NOOP, extra=poll.extra))
        waiting, connection.out = connection.out, None
        connection.fd, connection.kind, connection.phase = fd, Kind.WEBSOCKET, Phase.UPGRADED
        mount.pump.give(fd, connection)
        mount.upgraded()
        if waiting is not None and waiting.parts:
            # A part may be several packets that were joined for polling.
            packets = SEPARATOR.join(waiting.parts).split(SEPARATOR)
            connection.write(b"".join(map(protocol.as_frame, packets)))
        connection.take_over(rest, reader, violation)

    def _say_goodbye(self) -> None:
        connection = self._connection
        mount = connection.mount
        fd, self._fd = self._fd, -1
        mount.wheel.drop(self)
        out = OutBuffer()
        # A poll may have taken them already.
        while (payload := mount.last_words.take(connection.sid)) is not None:
            for packet in payload.split(SEPARATOR):
                if packet != protocol.CLOSE:
                    out.add(protocol.as_frame(packet))
        mount.pump.linger(fd, out, self._close_frame)

    def _give_up(self, number: int) -> None:
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        connection = self._connection
        connection.mount.wheel.drop(self)
        if connection.probe is self:
            connection.probe = None
            connection.phase = Phase.POLLING
        if number:
            connection.mount.pump.linger(fd, None, websocket.close_frame(number))
        else:
            connection.mount.pump.close(fd)
