"""One Engine.IO session or one event stream.

A connection is a small object: no greenlet, timer, queue or environ of its own. What it
sends goes to the kernel at once; only what the kernel does not take waits in an out-buffer.
The order of calls is the order on the wire.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from tidings.codes import CODES
from tidings.errors import BadPacket
from tidings_hub import runtime
from tidings_hub.core.frame import SEPARATOR
from tidings_hub.engine import engineio as protocol
from tidings_hub.engine import http, sse, websocket
from tidings_hub.engine.engineio import Heard, Kind, Phase
from tidings_hub.engine.interfaces import TRANSPORT_CLOSE
from tidings_hub.engine.outbuffer import OutBuffer
from tidings_hub.engine.timing_wheel import phase_s
from tidings_hub.engine.websocket import Message, Opcode, Reader, Violation

if TYPE_CHECKING:
    from tidings_hub.engine.mount import Mount
    from tidings_hub.engine.upgrade import Probing

_os = runtime.original("os")
_write = _os.write
_read = _os.read
_READ_BYTES = 65_536
_EPOLLOUT = 4
_WEBSOCKET, _POLLING = Kind.WEBSOCKET, Kind.POLLING
_PING_FRAME = websocket.frame(Opcode.TEXT, protocol.PING)
_COMMENT = b":\n\n"
# Far more than an out-buffer holds.
UNLIMITED = 1 << 30
# An event stream is PROBING until it is accepted.
_FIRST_PHASE = {Kind.POLLING: Phase.POLLING, Kind.WEBSOCKET: Phase.UPGRADED, Kind.SSE: Phase.PROBING}
# The out-buffer of every closed connection: one check in the fan-out's loop finds both.
_GONE = OutBuffer()
_CLIENT_DISCONNECT = "client disconnect"
_SERVER_DISCONNECT = "server disconnect"
_PING_TIMEOUT = "ping timeout"
_CLOSE_CODES = {
    websocket.PROTOCOL_ERROR: "bad_packet",
    websocket.BAD_DATA: "bad_packet",
    websocket.TOO_BIG: "too_large",
}
# Ends of the layer above, before which it may have said something. Who broke a bound gets nothing more.
_LAST_WORDS = frozenset(CODES) - {"slow", "too_fast", "too_large", "bad_packet", "ping_timeout"}
_COUNTED = {
    "slow": "closed_slow",
    "too_fast": "closed_too_fast",
    "too_large": "closed_too_large",
    "connect_timeout": "closed_connect_timeout",
    "bad_packet": "bad_packets",
    _PING_TIMEOUT: "closed_ping_timeout",
}


class Waiting(Protocol):
    """An HTTP connection whose request is still to be answered."""

    extra: bytes

    def answer(self, response: bytes) -> None:
        """Send a complete response; never blocks, never raises."""


class Connection:
    """What the layer above holds of one client.

    `sid`: its id. `kind`: what carries it now. `client`: free for the layer above. `remote`: the client's
    address. No method blocks or raises. All are for greenlets of the hub's thread.
    """

    __slots__ = (
        "__weakref__", "_alive", "_bucket", "_connect_by_s", "_corked", "_mark", "_ping_s", "_pinged", "_reader",
        "answered_s", "client", "closed", "extra", "fd", "kind", "mount", "out", "packets_max", "phase", "poll", "post",
        "probe", "remote", "sid", "slot",
    )  # fmt: skip

    def __init__(self, mount: Mount, sid: str, kind: Kind, remote: str, *, fd: int = -1, extra: bytes = b"") -> None:
        options = mount.options
        now_s = runtime.now_s()
        self.mount = mount
        self.sid = sid
        self.kind = kind
        self.remote = remote
        self.fd = fd
        self.client: object | None = None
        self.closed = False
        self.out: OutBuffer | None = None
        # Packets of one polling answer; fewer for clients that refuse more (see polling.py).
        self.packets_max = UNLIMITED
        # When the last poll was answered with what had waited or with a publication (see Mount.pace).
        self.answered_s = 0.0
        # The header lines that an event stream's answer needs; nothing for other kinds.
        self.extra = extra
        self.phase = _FIRST_PHASE[kind]
        self.poll: Waiting | None = None
        self.post: Waiting | None = None
        self.probe: Probing | None = None
        self.slot = -1
        # How many hold its output back; nothing goes to an event stream before its head.
        self._corked = 1 if kind is Kind.SSE else 0
        self._reader: Reader | None = None
        # Tokens left and when they were counted; only while the client sends.
        self._bucket: tuple[float, float] | None = None
        self._connect_by_s = now_s + options.connect_timeout_ms / 1000 if options.connect_timeout_ms else 0.0
        self._alive = True
        self._pinged = False
        self._mark = 0
        self._ping_s = now_s + phase_s(options.ping_interval_ms / 1000)

    # --- what the layer above calls ---

    @property
    def transport(self) -> str:
        """`polling`, `websocket` or `sse`."""
        return self.kind.name.lower()

    def send(self, packet: bytes | str) -> None:
        """Send one Engine.IO message: text (without its type) or binary. On an event stream: its bytes as they are."""
        if self.closed:
            return
        if self.kind is _POLLING:
            self.push(protocol.message(packet))
        elif self.kind is _WEBSOCKET:
            self.write(protocol.message_frame(packet))
        else:
            self.write(packet.encode() if isinstance(packet, str) else packet)

    def establish(self) -> None:
        """The layer above knows this client: the connect timeout is over."""
        self._connect_by_s = 0.0

    def close(self, code: str, *, tell: bool = True) -> None:
        """End it. `code` is a name of `tidings.codes`; `tell` says whether the client gets it. Idempotent.

        WebSocket: a close frame with the code's number. Polling: a waiting poll is answered with `1`.
        Event stream: its end. `Application.closed` follows on a later turn of the hub.
        """
        self.end(code, CODES[code].number if tell else 0)

    def cork(self) -> None:
        """Hold back what is sent until `uncork`, and then send it in one write or one payload. Nests."""
        self._corked += 1

    def uncork(self) -> None:
        """Send what `cork` held back, unless another still holds it. Without a `cork` before it: nothing."""
        if self._corked:
            self._corked -= 1
        if self.out is not None and not self._corked and not self.closed:
            self.flush()

    def accept(self, *, retry_ms: int = 3000) -> None:
        """Answer an event stream's request with 200 and its headers; what was sent before follows them."""
        if self.closed or self.phase is not Phase.PROBING or self.kind is not Kind.SSE:
            return
        self.phase = Phase.UPGRADED
        self.establish()
        held, self.out = self.out, None
        self._corked -= 1
        self.write(sse.head(self.extra, retry_ms))
        for part in held.parts if held is not None else ():
            self.write(bytes(part))

    def refuse(self, status: int, body: bytes) -> None:
        """Answer an event stream's request with an error, a JSON body; instead of `accept`."""
        if self.closed or self.phase is not Phase.PROBING or self.kind is not Kind.SSE:
            return
        fd, self.fd = self.fd, -1
        answer = http.response(status, body, kind=http.JSON, extra=http.CLOSE + self.extra)
        self.mount.pump.linger(fd, None, answer)
        self.end(_SERVER_DISCONNECT, 0)

    # --- what the engine calls ---

    def write(self, blob: bytes) -> None:
        """Bytes of a WebSocket or an event stream: to the kernel, and what it does not take to the out-buffer."""
        out = self.out
        if out is not None or self._corked:
            if out is None:
                out = self.out = OutBuffer()
            out.add(blob)
            self._check_size(out)
            return
        try:
            written: int = _write(self.fd, blob)
        except (BlockingIOError, InterruptedError):
            written = 0
        except OSError:
            self.end(TRANSPORT_CLOSE, 0)
            return
        if written != len(blob):
            self.keep(blob, written)

    def keep(self, blob: bytes, written: int) -> None:
        """The kernel took only `written` bytes of `blob`: the rest waits, and the pump tells when to go on."""
        out = self.out = OutBuffer()
        out.add_rest(blob, written)
        out.watched = True
        self.mount.pump.want_write(self.fd, want=True)
        self._check_size(out)

    def push(self, packet: bytes) -> None:
        """One Engine.IO packet of a polling session: to the waiting poll, or for the next one."""
        poll = self.poll
        if poll is not None and self.out is None and not self._corked:
            self.poll = None
            poll.answer(http.response(200, packet, extra=poll.extra))
            return
        out = self.out
        if out is None:
            out = self.out = OutBuffer()
        out.add(packet)
        self._check_size(out)

    def hold(self, packets: Sequence[bytes], size: int) -> None:
        """Packets of a polling session without a waiting poll: references, until the next one."""
        out = self.out
        if out is None:
            out = self.out = OutBuffer()
        out.extend(packets, size)
        self._check_size(out)

    def flush(self) -> None:
        """Send what waits, as far as it goes."""
        out = self.out
        if out is None or self.closed or self._corked:
            return
        if self.kind is _POLLING:
            if self.poll is not None and out.parts:
                poll, self.poll = self.poll, None
                packets = out.take(self.packets_max)
                self.answered_s = runtime.now_s()
                if not out.parts:
                    self.out = None
                poll.answer(self.mount.answers.make(packets, poll.extra))
            elif not out.parts:
                self.out = None
            return
        try:
            done = out.flush(self.fd)
        except OSError:
            self.end(TRANSPORT_CLOSE, 0)
            return
        if done:
            self.out = None
        if out.watched is done:
            out.watched = not done
            self.mount.pump.want_write(self.fd, want=not done)

    def resume(self) -> None:
        """A paced answer is due."""
        self.flush()

    def _check_size(self, out: OutBuffer) -> None:
        if out.size > self.mount.limits.out_buffer_bytes:
            if self.kind is not _POLLING:
                out.keep_begun()
            self.close("slow")

    def end(self, reason: str, number: int, text: str | None = None) -> None:
        """Close with a reason for the layer above and a close code for the client (0: say nothing). Idempotent."""
        if self.closed:
            return
        if self.kind is Kind.SSE and self.phase is Phase.PROBING and self.fd >= 0 and number:
            code = CODES[reason]
            wire = json.dumps({"code": code.name, "message": code.advice}).encode()
            self.refuse(code.http_status, wire)
            return
        self.closed = True
        out, self.out = self.out, _GONE
        fd, self.fd = self.fd, -1
        poll, probe = self.poll, self.probe
        self.poll = self.post = self.probe = None
        self._reader = None
        if (metric := _COUNTED.get(reason)) is not None:
            self.mount.count(metric)
        if self.kind is _POLLING:
            self._say_goodbye(poll, out, reason if number else "")
        if probe is not None:
            probe.close(number, reason if text is None else text)
        if fd >= 0:
            last = b""
            if number and self.kind is _WEBSOCKET:
                last = websocket.close_frame(number, reason if text is None else text)
            if number:
                self.mount.pump.linger(fd, out, last)
            else:
                self.mount.pump.close(fd)
        self.mount.gone(self, reason)

    def _say_goodbye(self, poll: Waiting | None, out: OutBuffer | None, reason: str) -> None:
        payloads: list[bytes] = []
        if out is not None and reason in _LAST_WORDS:
            while out.parts:
                payloads.append(SEPARATOR.join(out.take(self.packets_max)))
        # The close never shares a payload with words before it: socket.io-client handles a packet one microtask
        # after it was read, and by then the close beside it would have taken the listeners away. Who should come
        # back hears no close but an unknown session: python-engineio never reconnects after a close.
        if not payloads or not CODES[reason].should_reconnect:
            payloads.append(protocol.CLOSE)
        if poll is not None:
            poll.answer(http.response(200, payloads.pop(0), extra=poll.extra))
        elif payloads == [protocol.CLOSE]:
            # Nothing was said: an unknown session tells the client as much.
            return
        # Why it was closed was said, and no poll was there to take it: the next ones do.
        self.mount.last_words.leave(self.sid, payloads)

    def abort(self) -> None:
        """Something of ours failed while this connection's event was handled."""
        self.close("internal")

    def event(self, mask: int) -> None:
        """The pump: this connection's socket is readable, writable or broken."""
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
            self.hear_frames(data)
        # An event stream's client has nothing to say after its request: what it says is not kept.

    def hear_frames(self, data: bytes) -> None:
        """Bytes that a WebSocket brought."""
        messages: list[Message] = []
        reader = self._reader or Reader(self.mount.options.max_payload_bytes)
        violation: Violation | None = None
        try:
            reader.feed(data, messages)
        except Violation as error:
            violation = error
        self.take_over(messages, reader, violation)

    def take_over(self, messages: Sequence[Message], reader: Reader, violation: Violation | None) -> None:
        """What a reader brought: complete messages, what is unfinished in it, and what ended it."""
        self._reader = None if reader.idle else reader
        self.hear(messages)
        if violation is not None and not self.closed:
            self.end(_CLOSE_CODES[violation.number], violation.number, str(violation))

    def hear(self, messages: Sequence[Message]) -> None:
        """Complete WebSocket messages, in order; what they make us send goes out in one write."""
        self._corked += 1
        try:
            for opcode, data in messages:
                if self.closed:
                    return
                self._hear_message(opcode, data)
        finally:
            self.uncork()

    def _hear_message(self, opcode: int, data: str | bytes) -> None:
        if not self.lives():
            return
        if opcode <= Opcode.BINARY:
            try:
                heard, content = protocol.packet(data)
            except BadPacket as error:
                # Node closes with 1000 here; 1002 says whose fault it was.
                self.end("bad_packet", websocket.PROTOCOL_ERROR, str(error))
                return
            self.hear_packet(heard, content)
        elif opcode == Opcode.PING and isinstance(data, bytes):
            self.write(websocket.frame(Opcode.PONG, data))
        elif opcode == Opcode.CLOSE and isinstance(data, bytes):
            try:
                number = websocket.close_code(data)
            except Violation as error:
                self.end("bad_packet", error.number)
            else:
                self.end(TRANSPORT_CLOSE, number, "")

    def hear_packet(self, heard: Heard, content: str | bytes) -> None:
        """One Engine.IO packet, from either transport."""
        if heard is Heard.MESSAGE:
            self.mount.received(self, content)
        elif heard is Heard.CLOSE:
            poll, self.poll = self.poll, None
            if poll is not None:
                poll.answer(http.response(200, protocol.NOOP, extra=poll.extra))
            self.end(_CLIENT_DISCONNECT, websocket.NORMAL, "")

    def lives(self) -> bool:
        """Count one packet of the client: a sign of life, and one token. False: too fast, and closed for it."""
        self._alive = True
        limits, now_s = self.mount.limits, runtime.now_s()
        self.mount.metrics.packets_received += 1
        left = float(limits.inbound_burst)
        if self._bucket is not None:
            tokens, counted_s = self._bucket
            left = min(left, tokens + (now_s - counted_s) * limits.inbound_rate_per_s)
        self._bucket = (left - 1, now_s)
        if left >= 1:
            return True
        self.close("too_fast")
        return False

    def excuse(self) -> None:
        """The packet that was counted last was asked for: give its token back."""
        if self._bucket is not None:
            tokens, counted_s = self._bucket
            self._bucket = (tokens + 1, counted_s)

    def seen(self) -> None:
        """A request of this session: a sign of life."""
        self._alive = True

    def overdue(self) -> bool:
        """Close it if its ping timeout has passed, exactly; whether it is closed."""
        if self._pinged and not self._alive and runtime.now_s() >= self._ping_s:
            self.due(runtime.now_s())
        return self.closed

    def due(self, now_s: float) -> float | None:
        """The wheel: send a ping, or look for the answer to the last one."""
        if self._connect_by_s and now_s >= self._connect_by_s:
            self.close("connect_timeout")
        elif now_s >= self._ping_s:
            self._beat(now_s)
        if self.closed:
            return None
        # A full bucket is the same as none.
        if self._bucket is not None and now_s - self._bucket[1] > self._refill_s():
            self._bucket = None
        return self.wait_s(now_s)

    def wait_s(self, now_s: float) -> float:
        """Seconds until this connection's next deadline."""
        next_s = min(self._ping_s, self._connect_by_s) if self._connect_by_s else self._ping_s
        return next_s - now_s

    def _refill_s(self) -> float:
        return self.mount.limits.inbound_burst / self.mount.limits.inbound_rate_per_s

    def _beat(self, now_s: float) -> None:
        options = self.mount.options
        interval_s, timeout_s = options.ping_interval_ms / 1000, options.ping_timeout_ms / 1000
        if self.kind is Kind.SSE:
            if self.phase is not Phase.PROBING and self.out is None:
                self.write(_COMMENT)
            self._ping_s = now_s + interval_s
        elif not self._pinged:
            self._pinged, self._alive = True, False
            self._mark = self.out.sent if self.out is not None else 0
            # From when the ping was due: the wheel's step must not lengthen the timeout. Only a node that
            # stood still gives its clients the time that it took from them.
            self._ping_s = max(self._ping_s, now_s - timeout_s / 4) + timeout_s
            if self.kind is _POLLING:
                self.push(protocol.PING)
            else:
                self.write(_PING_FRAME)
        elif self._alive:
            self._pinged = False
            self._ping_s = max(self._ping_s - timeout_s + interval_s, now_s)
        elif self.kind is _WEBSOCKET and self.out is not None and self.out.sent != self._mark:
            # The ping waits behind data that the client is still reading: slow, but alive.
            self._mark = self.out.sent
            self._ping_s = now_s + timeout_s
        else:
            self.end(_PING_TIMEOUT, CODES["ping_timeout"].number)
