"""One Engine.IO session, or one event stream (sse_stream.py).

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

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from tidings.codes import CODES
from tidings_hub import runtime
from tidings_hub.core.frame import join_websocket
from tidings_hub.engine.close_payloads import error_after, final_payloads
from tidings_hub.engine.connection_input import ConnectionInput, InputMount
from tidings_hub.engine.outbuffer import OutBuffer
from tidings_hub.engine.protocols import engineio, http_response, websocket
from tidings_hub.engine.protocols.engineio import (
    PING_TIMEOUT,
    TRANSPORT_CLOSE,
    TransportKind,
    UpgradeState,
)
from tidings_hub.engine.protocols.request_history import NO_HISTORY, RequestHistory

if TYPE_CHECKING:
    from tidings_hub.core.frame import OutgoingFrame
    from tidings_hub.engine.close_payloads import ClosePayloads
    from tidings_hub.engine.connection_input import ResponseWriter
    from tidings_hub.engine.poll_response_cache import PollResponseCache
    from tidings_hub.engine.pump import Pump
    from tidings_hub.engine.timing_wheel import TimingWheel

_write = runtime.original("os").write
_WEBSOCKET, _POLLING = TransportKind.WEBSOCKET, TransportKind.POLLING
# A connect timeout that has passed when it is stopped counts as this much, since 0 stands for none.
_LEFT_MIN_S = 0.001
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

    def last_frames(self, connection: Connection, code: str, message: str | None) -> Sequence[OutgoingFrame]:
        """What the client receives before the connection closes with `code`."""

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
        "__weakref__", "client", "closed", "fd", "is_text_only", "kind", "last_response_s", "mount",
        "out", "post", "remote", "sid", "slot", "upgrade_probe", "upgrade_state",
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
        history: RequestHistory = NO_HISTORY,
        is_text_only: bool = False,
    ) -> None:
        super().__init__(kind, mount.options, history)
        self.mount = mount
        self.sid = sid
        self.kind = kind
        self.remote = remote
        self.fd = fd
        self.client: object | None = None
        self.closed = False
        self.out: OutBuffer | None = None
        # When the last poll got a response with waiting packets or a publication (see Mount.pace).
        self.last_response_s = 0.0
        # Whether binary data goes out as base64 on a WebSocket, too.
        self.is_text_only = is_text_only
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
        """Send one Engine.IO message: text (without its type) or binary."""
        if self.closed:
            return
        if self.kind is _POLLING:
            self.send_packet(engineio.encode_message(packet))
        else:
            self.write(engineio.message_frame(packet, is_text_only=self.is_text_only))

    def close(self, code: str, message: str | None = None) -> None:
        """Close the connection with a code of `tidings.codes`. Idempotent.

        First the client receives the application's `last_frames`. `message`: for them; an empty one: there are none,
        since the client has the code already. A WebSocket then gets a close frame with the code's number. A polling
        session gets its last packets and the close packet `1` with its next polls (see close_payloads.py). An event
        stream ends; if it was not accepted yet, the client gets an error response. `Application.on_close` is called on
        a later turn of the event loop.
        """
        self.end(code, CODES[code].number, message=message)

    def establish(self) -> float:
        """Stop the connect timeout: the client has sent its CONNECT. Return the seconds that were left, 0 if none."""
        connect_by_s, self._connect_by_s = self._connect_by_s, 0.0
        return max(abs(connect_by_s) - runtime.now_s(), _LEFT_MIN_S) if connect_by_s else 0.0

    def await_connect(self, left_s: float) -> None:
        """Let the connect timeout continue. The wheel may notice its end only at the next heartbeat."""
        self._connect_by_s = runtime.now_s() + left_s

    def cork(self) -> None:
        """Buffer all output until `uncork`, which sends it in one write or one payload. Calls nest."""
        self._cork_depth += 1

    def uncork(self) -> None:
        """Send what `cork` buffered, unless an outer `cork` is still active. Without a `cork`, do nothing."""
        if self._cork_depth:
            self._cork_depth -= 1
        if self.out is not None and not self._cork_depth and not self.closed:
            self.flush()

    # --- long polling, called by the engine ---

    def hold_poll(self, until_s: float) -> None:
        """Hold the waiting poll until a pong proves that the last response arrived, at the longest until `until_s`."""
        self.history.held_until_s = until_s
        self.cork()

    def release_poll(self) -> None:
        """Continue with a held poll: it is the next one."""
        self.history.held_until_s = None
        self.history.decide(0, is_waiting=False)
        self.uncork()
        if self.upgrade_state is UpgradeState.PROBED and self.out is None:
            self.respond_to_poll(engineio.NOOP)

    def leave_polling(self, fd: int) -> OutBuffer | None:
        """Continue on the WebSocket `fd`. Return what was not sent yet."""
        self.respond_to_poll(engineio.NOOP)
        self.history = NO_HISTORY
        out, self.out = self.out, None
        self.fd, self.kind = fd, _WEBSOCKET
        self.upgrade_state = UpgradeState.UPGRADED
        return out

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
        can_respond = self.poll is not None and self.out is None and not self._cork_depth
        if can_respond and not self.history.needs_pings:
            self.respond_to_poll(packet)
            return
        out = self.out
        if out is None:
            out = self.out = OutBuffer()
        out.add(packet)
        if can_respond:
            self.flush()
        else:
            self._check_buffer_size(out)

    def respond_to_poll(self, payload: bytes) -> None:
        """Respond to the waiting poll, if there is one, with `payload` and without buffered packets."""
        poll, self.poll = self.poll, None
        if poll is not None:
            self.history.response = http_response.render(200, payload, extra_headers=poll.extra_headers)
            poll.respond(self.history.response)

    def buffer_packets(self, packets: Sequence[bytes], size: int) -> None:
        """Buffer packets, or parts of a stream, without copying them, until the next `flush`."""
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
                self._respond_with_buffered(self.poll, out)
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

    def _respond_with_buffered(self, poll: ResponseWriter, out: OutBuffer) -> None:
        history = self.history
        # A ping that is added counts as well.
        packets = out.take(history.packets_max - history.needs_pings)
        if history.needs_pings:
            if engineio.PING not in packets:
                packets.append(engineio.PING)
            history.add_pings(packets.count(engineio.PING))
        self.poll = None
        self.last_response_s = runtime.now_s()
        if not out.parts:
            self.out = None
        response = self.mount.poll_responses.response_for(packets, poll.extra_headers)
        poll.respond(history.keep(response, packets, poll.extra_headers))

    def resume(self) -> None:
        """Respond to a poll that `Mount.pace` delayed."""
        self.flush()

    def _check_buffer_size(self, out: OutBuffer) -> None:
        if out.size > self.mount.limits.out_buffer_bytes:
            if self.kind is not _POLLING:
                out.keep_partial()
            self.close("slow")

    # --- the end ---

    def end(self, reason: str, close_code: int, text: str | None = None, message: str | None = None) -> None:
        """Close the connection. The application gets `reason`, the client gets `close_code`. Idempotent.

        A `close_code` of 0 closes without a message to the client. `text`: the text of the close frame, by default the
        name of the code. `message`: see `close`.
        """
        if self.closed:
            return
        code = "ping_timeout" if reason == PING_TIMEOUT else reason
        frames = self.mount.last_frames(self, code, message) if close_code and code in CODES else ()
        self.closed = True
        out, self.out = self.out, _CLOSED_OUT
        fd, self.fd = self.fd, -1
        poll, upgrade_probe = self.poll, self.upgrade_probe
        self.poll = self.post = self.upgrade_probe = None
        self._reader = None
        if (metric := _METRICS.get(reason)) is not None:
            self.mount.increment(metric)
        if self.kind is _POLLING:
            self._end_polling(poll, out, code if close_code else "", frames)
        if upgrade_probe is not None:
            upgrade_probe.close(close_code, code if text is None else text)
        if fd >= 0 and close_code:
            self.mount.pump.linger(fd, out, self._last_bytes(frames, close_code, code if text is None else text))
        elif fd >= 0:
            self.mount.pump.close(fd)
        self.mount.on_closed(self, reason)

    def _last_bytes(self, frames: Sequence[OutgoingFrame], close_code: int, text: str) -> bytes:
        return join_websocket(frames) + websocket.close_frame(close_code, text)

    def _end_polling(
        self, poll: ResponseWriter | None, out: OutBuffer | None, code: str, frames: Sequence[OutgoingFrame]
    ) -> None:
        is_held, error = self.history.is_held, error_after(code)
        # A client with a held poll may not have the last response. Later packets would hide that it missed some. The
        # end for good hides nothing.
        payloads = final_payloads(None if is_held else out, code, self.history.packets_max, frames)
        if poll is not None and (not payloads or (is_held and (error or not frames))):
            poll.respond(engineio.UNKNOWN_SESSION.response(poll.extra_headers, name=error))
            return
        if poll is not None:
            response = http_response.render(200, payloads.pop(0), extra_headers=poll.extra_headers)
            poll.respond(self.history.keep_final(response))
        # A close packet alone is not kept for the next poll: "unknown session" ends the client's session as well.
        if poll is not None or payloads != [engineio.CLOSE]:
            self.mount.close_payloads.keep(self.sid, payloads, self.history, code)

    def abort(self) -> None:
        """Close the connection after an exception of the engine or the application."""
        self.close("internal")
