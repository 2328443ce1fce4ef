"""One Engine.IO session or one event stream.

A connection is a small object. It has no greenlet, timer, queue or WSGI environ. It writes to its socket at once and
never blocks. Bytes that the kernel does not accept wait in an out-buffer, which exists only then. Packets are sent in
the order of the calls.

A long poll gets a packet in one of two ways:

    a poll waits                            a poll comes later

    client  --GET-->  poll is set           packet  -->  out: the packet waits
    packet  -->  poll.respond(packet)       client  --GET-->  poll is set, flush()
    client  <--200--                        client  <--200--  all packets in out

In both, `poll` is None again after the response is written.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from tidings.codes import CODES
from tidings_hub import runtime
from tidings_hub.engine.close_payloads import final_payloads
from tidings_hub.engine.connection_input import ConnectionInput, InputMount
from tidings_hub.engine.outbuffer import OutBuffer
from tidings_hub.engine.protocols import engineio, http_response, websocket
from tidings_hub.engine.protocols.engineio import (
    PING_TIMEOUT,
    SERVER_DISCONNECT,
    TRANSPORT_CLOSE,
    TransportKind,
    UpgradeState,
)

if TYPE_CHECKING:
    from tidings_hub.engine.close_payloads import ClosePayloads
    from tidings_hub.engine.connection_input import ResponseWriter
    from tidings_hub.engine.poll_response_cache import PollResponseCache
    from tidings_hub.engine.pump import Pump
    from tidings_hub.engine.timing_wheel import TimingWheel

_write = runtime.original("os").write
_WEBSOCKET, _POLLING = TransportKind.WEBSOCKET, TransportKind.POLLING
# Far more packets than an out-buffer holds.
UNLIMITED = 1 << 30
# An event stream is PROBING until the application accepts it.
_INITIAL_STATE = {
    TransportKind.POLLING: UpgradeState.POLLING,
    TransportKind.WEBSOCKET: UpgradeState.UPGRADED,
    TransportKind.SSE: UpgradeState.PROBING,
}
# All closed connections have this out-buffer. So the fan-out needs only one check, `out is None`, to find a WebSocket
# that it can write to at once: one that is open and has no bytes waiting.
_CLOSED_OUT = OutBuffer()
# The counter of each close reason that has one.
_METRICS = {
    "slow": "closed_slow",
    "too_fast": "closed_too_fast",
    "too_large": "closed_too_large",
    "connect_timeout": "closed_connect_timeout",
    "bad_packet": "bad_packets",
    PING_TIMEOUT: "closed_ping_timeout",
}


class UpgradeSocket(Protocol):
    """A WebSocket that is about to take over a polling session."""

    def close(self, close_code: int, text: str) -> None:
        """Close it: the session has ended."""


class ConnectionMount(InputMount, Protocol):
    """What a connection needs of its mount."""

    pump: Pump
    wheel: TimingWheel
    close_payloads: ClosePayloads
    poll_responses: PollResponseCache

    def on_upgraded(self) -> None:
        """Count a session that moved from polling to a WebSocket."""

    def on_closed(self, connection: Connection, reason: str) -> None:
        """Remove a connection that has ended."""

    def increment(self, name: str) -> None:
        """Add one to a counter."""


class Connection(ConnectionInput):
    """One client, as the application sees it.

    `sid`: the Engine.IO session id. `kind`: the transport. `client`: free for use by the application. `remote`: the
    client's address. No method blocks or raises. Call the methods only from greenlets of the hub's thread.
    """

    __slots__ = (
        "__weakref__", "client", "closed", "extra_headers", "fd", "kind", "last_response_s",
        "mount", "out", "packets_max", "post", "remote", "sid", "slot", "upgrade_probe", "upgrade_state",
    )  # fmt: skip

    mount: ConnectionMount

    def __init__(
        self,
        mount: ConnectionMount,
        sid: str,
        kind: TransportKind,
        remote: str,
        *,
        fd: int = -1,
        extra_headers: bytes = b"",
    ) -> None:
        super().__init__(kind, mount.options)
        self.mount = mount
        self.sid = sid
        self.kind = kind
        self.remote = remote
        self.fd = fd
        self.client: object | None = None
        self.closed = False
        self.out: OutBuffer | None = None
        # Packets per poll response; fewer for clients that reject more (see engineio_handler.py).
        self.packets_max = UNLIMITED
        # When the last poll got a response with waiting packets or a publication (see Mount.pace).
        self.last_response_s = 0.0
        # Header lines for the response of an event stream; empty for other transports.
        self.extra_headers = extra_headers
        self.upgrade_state = _INITIAL_STATE[kind]
        self.post: ResponseWriter | None = None
        self.upgrade_probe: UpgradeSocket | None = None
        self.slot = -1

    # --- called by the application ---

    @property
    def transport(self) -> str:
        """`polling`, `websocket` or `sse`."""
        return self.kind.name.lower()

    def send(self, packet: bytes | str) -> None:
        """Send one Engine.IO message: text (without its type) or binary. On an event stream, send the bytes as is."""
        if self.closed:
            return
        if self.kind is _POLLING:
            self.send_packet(engineio.encode_message(packet))
        elif self.kind is _WEBSOCKET:
            self.write(engineio.message_frame(packet))
        else:
            self.write(packet.encode() if isinstance(packet, str) else packet)

    def close(self, code: str) -> None:
        """Close the connection with a code of `tidings.codes`. Idempotent.

        A WebSocket gets a close frame with the code's number. A polling session gets its last packets and the close
        packet `1` with its next polls (see close_payloads.py). An event stream ends; if it was not accepted yet, the
        client gets an error response. `Application.on_close` is called on a later turn of the event loop.
        """
        self.end(code, CODES[code].number)

    def cork(self) -> None:
        """Buffer all output until `uncork`, which sends it in one write or one payload. Calls nest."""
        self._cork_depth += 1

    def uncork(self) -> None:
        """Send what `cork` buffered, unless an outer `cork` is still active. Without a `cork`, do nothing."""
        if self._cork_depth:
            self._cork_depth -= 1
        if self.out is not None and not self._cork_depth and not self.closed:
            self.flush()

    def accept(self, *, retry_ms: int = 3000) -> None:
        """Accept an event stream: respond with status 200, then send everything that is buffered."""
        if self.closed or self.upgrade_state is not UpgradeState.PROBING or self.kind is not TransportKind.SSE:
            return
        self.upgrade_state = UpgradeState.UPGRADED
        self.establish()
        buffered, self.out = self.out, None
        self._cork_depth -= 1
        self.write(http_response.event_stream_head(self.extra_headers, retry_ms))
        for part in buffered.parts if buffered is not None else ():
            self.write(bytes(part))

    def refuse(self, status: int, body: bytes) -> None:
        """Refuse an event stream: respond with an error whose `body` is JSON. Use it instead of `accept`."""
        if self.closed or self.upgrade_state is not UpgradeState.PROBING or self.kind is not TransportKind.SSE:
            return
        fd, self.fd = self.fd, -1
        headers = http_response.CLOSE + self.extra_headers
        response = http_response.render(status, body, content_type=http_response.JSON, extra_headers=headers)
        self.mount.pump.linger(fd, None, response)
        self.end(SERVER_DISCONNECT, 0)

    # --- output, called by the engine ---

    def write(self, blob: bytes) -> None:
        """Write bytes to a WebSocket or an event stream. Bytes that the kernel does not accept go to the out-buffer."""
        out = self.out
        if out is not None or self._cork_depth:
            if out is None:
                out = self.out = OutBuffer()
            out.add(blob)
            self._check_buffer_size(out)
            return
        try:
            written: int = _write(self.fd, blob)
        except (BlockingIOError, InterruptedError):
            written = 0
        except OSError:
            self.end(TRANSPORT_CLOSE, 0)
            return
        if written != len(blob):
            self.buffer_rest(blob, written)

    def buffer_rest(self, blob: bytes, written: int) -> None:
        """Buffer `blob` without its first `written` bytes, and continue when the socket becomes writable."""
        out = self.out = OutBuffer()
        out.add_rest(blob, written)
        out.is_watched = True
        self.mount.pump.want_write(self.fd, want=True)
        self._check_buffer_size(out)

    def send_packet(self, packet: bytes) -> None:
        """Send one Engine.IO packet of a polling session in response to the waiting poll, or else to the next one."""
        poll = self.poll
        if poll is not None and self.out is None and not self._cork_depth:
            self.poll = None
            poll.respond(http_response.render(200, packet, extra_headers=poll.extra_headers))
            return
        out = self.out
        if out is None:
            out = self.out = OutBuffer()
        out.add(packet)
        self._check_buffer_size(out)

    def buffer_packets(self, packets: Sequence[bytes], size: int) -> None:
        """Buffer packets, without copying them, until the next poll of a polling session."""
        out = self.out
        if out is None:
            out = self.out = OutBuffer()
        out.extend(packets, size)
        self._check_buffer_size(out)

    def flush(self) -> None:
        """Send buffered data: to the socket, as far as the kernel accepts it, or in response to a waiting poll."""
        out = self.out
        if out is None or self.closed or self._cork_depth:
            return
        if self.kind is _POLLING:
            if self.poll is not None and out.parts:
                poll, self.poll = self.poll, None
                packets = out.take(self.packets_max)
                self.last_response_s = runtime.now_s()
                if not out.parts:
                    self.out = None
                poll.respond(self.mount.poll_responses.response_for(packets, poll.extra_headers))
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
        if out.is_watched is done:
            out.is_watched = not done
            self.mount.pump.want_write(self.fd, want=not done)

    def resume(self) -> None:
        """Respond to a poll that `Mount.pace` delayed."""
        self.flush()

    def _check_buffer_size(self, out: OutBuffer) -> None:
        if out.size > self.mount.limits.out_buffer_bytes:
            if self.kind is not _POLLING:
                out.keep_partial()
            self.close("slow")

    # --- the end ---

    def end(self, reason: str, close_code: int, text: str | None = None) -> None:
        """Close the connection. The application gets `reason`, the client gets `close_code`. Idempotent.

        A `close_code` of 0 closes without a message to the client. `text`: the text of the close frame, by default
        `reason`.
        """
        if self.closed:
            return
        is_unaccepted = self.kind is TransportKind.SSE and self.upgrade_state is UpgradeState.PROBING
        if is_unaccepted and self.fd >= 0 and close_code:
            code = CODES[reason]
            body = json.dumps({"code": code.name, "message": code.advice}).encode()
            self.refuse(code.http_status, body)
            return
        self.closed = True
        out, self.out = self.out, _CLOSED_OUT
        fd, self.fd = self.fd, -1
        poll, upgrade_probe = self.poll, self.upgrade_probe
        self.poll = self.post = self.upgrade_probe = None
        self._reader = None
        if (metric := _METRICS.get(reason)) is not None:
            self.mount.increment(metric)
        if self.kind is _POLLING:
            self._end_polling(poll, out, reason if close_code else "")
        if upgrade_probe is not None:
            upgrade_probe.close(close_code, reason if text is None else text)
        if fd >= 0:
            frame = b""
            if close_code and self.kind is _WEBSOCKET:
                frame = websocket.close_frame(close_code, reason if text is None else text)
            if close_code:
                self.mount.pump.linger(fd, out, frame)
            else:
                self.mount.pump.close(fd)
        self.mount.on_closed(self, reason)

    def _end_polling(self, poll: ResponseWriter | None, out: OutBuffer | None, reason: str) -> None:
        payloads = final_payloads(out, reason, self.packets_max)
        if poll is not None:
            poll.respond(http_response.render(200, payloads.pop(0), extra_headers=poll.extra_headers))
        elif payloads == [engineio.CLOSE]:
            # Nothing was buffered. The next poll gets the error "unknown session", which ends the client's session.
            return
        # No poll was waiting, or there is more than one payload: the client's next polls fetch them.
        self.mount.close_payloads.keep(self.sid, payloads)

    def abort(self) -> None:
        """Close the connection after an exception of the engine or the application."""
        self.close("internal")
