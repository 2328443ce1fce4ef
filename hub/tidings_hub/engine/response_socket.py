"""The output side of an HTTP connection: responses, keep-alive, the deadline, and handing over the descriptor.

`ResponseSocket` is the base class of `HttpConnection`, not a second object beside it, because every poll passes both.
"""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Protocol

from tidings_hub import runtime
from tidings_hub.engine.capacity.waiting_tiers import IDLE_TIER, LAST_TIER, POLL_TIER, waiting_tier
from tidings_hub.engine.outbuffer import OutBuffer, is_unacknowledged, is_undelivered
from tidings_hub.engine.protocols.engineio import TRANSPORT_CLOSE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tidings_hub.engine.capacity.input_budget import InputBudget
    from tidings_hub.engine.connection import Connection
    from tidings_hub.engine.connection_input import ResponseWriter
    from tidings_hub.engine.limits import EngineLimits, EngineMetrics
    from tidings_hub.engine.linger import Linger
    from tidings_hub.engine.pump import Pump
    from tidings_hub.engine.timing_wheel import TimingWheel

_write = runtime.original("os").write
_poll = runtime.original("select").poll
# The client closed the connection, or only its sending side; or the connection broke. See epoll_ctl(2).
_HANGUP = select.POLLRDHUP | select.POLLHUP | select.POLLERR


class PendingRequest(Protocol):
    """Responsible for a request without a response: a session, or the relay of the request to another node."""

    poll: ResponseWriter | None

    def end(self, reason: str, close_code: int) -> None:
        """The client disconnected."""


class FrameReceiver(Protocol):
    """The owner of a socket after a WebSocket handshake."""

    def on_frames(self, data: bytes) -> None:
        """Bytes arrived directly after the handshake."""


class SocketServer(Protocol):
    """What the output side of an HTTP connection needs of the server."""

    budget: InputBudget
    limits: EngineLimits
    metrics: EngineMetrics
    pump: Pump
    wheel: TimingWheel


class ResponseSocket:
    """Owns the descriptor of a client while the client uses HTTP."""

    __slots__ = (
        "_close_after", "_deadline_s", "_fd", "_input", "_is_detached", "_is_processing", "_linger", "_out", "_pending",
        "_reading_s", "_was_cut", "post_target", "slot",
    )  # fmt: skip

    # A slot of `HttpConnection`.
    server: SocketServer

    def __init__(self, fd: int) -> None:
        self.slot = -1
        # The session whose POST this connection is reading.
        self.post_target: Connection | None = None
        self._fd = fd
        # Bytes received and not yet processed.
        self._input = b""
        self._out: OutBuffer | None = None
        self._pending: PendingRequest | None = None
        # Whether to close the connection after the next response.
        self._close_after = False
        self._is_detached = False
        self._is_processing = False
        # What closes the connection after its last response.
        self._linger: Linger | None = None
        # Whether the client ended the connection before it had read the last response.
        self._was_cut = False
        # 0: no deadline.
        self._deadline_s = 0.0
        # The time that an incomplete request has, if the deadline applies to one. 0: no request is being read.
        self._reading_s = 0.0

    def abort(self) -> None:
        """Close the descriptor and notify the owner of a pending request."""
        if self._fd < 0:
            return
        self.server.pump.close(self.release_fd())
        pending, self._pending = self._pending, None
        post_target, self.post_target = self.post_target, None
        if pending is not None:
            pending.poll = None
            pending.end(TRANSPORT_CLOSE, 0)
        if post_target is not None and not post_target.closed:
            post_target.post = None
            post_target.end(TRANSPORT_CLOSE, 0)

    def _end_by_client(self, *, is_reset: bool) -> None:
        """Close the descriptor, because the client has ended the connection. `is_reset`: it has not read everything."""
        self._was_cut = is_reset or is_unacknowledged(self._fd, is_shut_down=False)
        self.abort()

    # --- deadlines ---

    def _set_deadline(self, seconds: float) -> None:
        self._deadline_s = runtime.now_s() + seconds
        self.server.wheel.schedule(self, seconds)

    def _read_within(self, seconds: float) -> None:
        self._reading_s = seconds
        self._set_deadline(seconds)

    def waiting_rank(self, now_s: float) -> tuple[int, float] | None:
        """The order in which waiting connections are closed for new ones, smallest first; see `SocketRoom`.

        First those that have not completed a request, or not read a response, for a second; then idle ones, the longest
        idle first; then new ones. The POST of a session is late, since the session ends with it, and a poll is last.
        None: a greenlet serves its request.
        """
        if self._pending is not None:
            return POLL_TIER, 0.0
        if self._is_detached or not self._deadline_s:
            return None
        limits = self.server.limits
        if self._out is not None:
            since_s = self._deadline_s - limits.answer_timeout_s
        elif self._reading_s:
            since_s = self._deadline_s - self._reading_s
        else:
            return IDLE_TIER, self._deadline_s - limits.idle_timeout_s
        return (waiting_tier(now_s - since_s) if self.post_target is None else LAST_TIER), since_s

    def _start_idle_timeout(self) -> None:
        limits = self.server.limits
        if limits.idle_timeout_s < max(limits.head_timeout_s, limits.body_timeout_s):
            self._set_deadline(limits.idle_timeout_s)
        else:
            # The wheel already visits this connection before the new deadline, so nothing has to be scheduled.
            self._deadline_s = runtime.now_s() + limits.idle_timeout_s

    def on_deadline(self, now_s: float) -> float | None:
        """Implemented by `HttpConnection`."""
        raise NotImplementedError

    def resume(self) -> None:
        """Implemented by `HttpConnection`."""
        raise NotImplementedError

    def shed_input(self) -> None:
        """Implemented by `HttpConnection`."""
        raise NotImplementedError

    # --- responses ---

    def wait_for(self, pending: PendingRequest) -> None:
        """Let `pending` respond later. If the client disconnects before that, `pending.end` is called."""
        self._pending = pending
        self._deadline_s = 0.0

    def stop_waiting(self) -> None:
        """Let the owner of the pending request go: another connection has the request now."""
        self._pending = None

    def is_unread(self) -> bool:
        """Whether a part of the last response has not even reached the client's machine."""
        if self._linger is not None:
            return self._linger.is_unread()
        return self._was_cut or self._out is not None or is_undelivered(self._fd)

    def is_closed_by_client(self) -> bool:
        """Whether the client closed the connection. False if its last request announced that."""
        if self._fd < 0:
            return not self._close_after
        watch = _poll()
        watch.register(self._fd, _HANGUP)
        return bool(watch.poll(0))

    def respond(self, response: bytes) -> None:
        """Send a complete response. Never blocks, never raises."""
        if self._fd < 0:
            return
        try:
            written: int = _write(self._fd, response)
        except (BlockingIOError, InterruptedError):
            written = 0
        except OSError:
            self.abort()
            return
        self._pending = None
        if written == len(response):
            self._on_response_sent()
            return
        self._out = OutBuffer()
        self._out.add_rest(response, written)
        self.server.pump.want_write(self._fd, want=True)
        self._set_deadline(self.server.limits.answer_timeout_s)

    def send_raw(self, response: bytes, *, keep_alive: bool) -> None:
        """Send the response of another node unchanged."""
        self._close_after = self._close_after or not keep_alive
        self.respond(response)

    def _on_response_sent(self) -> None:
        if self._close_after:
            self._linger = self.server.pump.linger(self.release_fd(), None, b"")
            return
        self._start_idle_timeout()
        if self._input and not self._is_processing:
            runtime.call_soon(self.server.pump.resume, self)

    def _flush(self) -> None:
        if self._out is None:
            return
        try:
            done = self._out.flush(self._fd)
        except OSError:
            self.abort()
            return
        if done:
            self._out = None
            self.server.pump.want_write(self._fd, want=False)
            self._on_response_sent()

    def _write_interim(self, blob: bytes) -> None:
        try:
            is_complete = _write(self._fd, blob) == len(blob)
        except OSError:
            is_complete = False
        if not is_complete:
            self.abort()

    # --- handing over the descriptor ---

    def accept_upgrade(self, response: bytes) -> int | None:
        """Send the response to a WebSocket handshake and release the descriptor. None: the connection broke."""
        self._write_interim(response)
        self._pending = None
        # The client read the last response before it sent this request, so this is no loss of connection.
        self._close_after = True
        return self.release_fd() if self._fd >= 0 else None

    def release_fd(self) -> int:
        """Give up the descriptor, without a response to the current request. The caller owns it from now on."""
        fd, self._fd = self._fd, -1
        self.server.wheel.cancel(self)
        self.server.budget.release(self)
        return fd

    def feed_remaining(self, receiver: FrameReceiver) -> None:
        """Pass bytes that arrived directly after the handshake to the new owner of the socket."""
        data, self._input = self._input, b""
        if data:
            receiver.on_frames(data)

    def end_priority(self) -> None:
        """Serve this connection in turn with all others: it is no probe's."""
        self.server.pump.end_priority(self._fd)

    def detach(self) -> None:
        """Stop all events of the descriptor until `reattach`, because a greenlet handles the request."""
        self._is_detached = True
        self._deadline_s = 0.0
        self.server.pump.detach(self._fd)

    def reattach(self, response: bytes, *, keep_alive: bool, is_probe: bool = False) -> None:
        """Send the greenlet's response and continue with the next request. The next one after a probe has priority."""
        if self._fd < 0:
            return
        self._is_detached = False
        self.server.pump.reattach(self._fd, has_priority=is_probe)
        self._close_after = self._close_after or not keep_alive
        self.respond(response)

    def pause(self, delay_s: float, function: Callable[..., object], *args: object) -> None:
        """Let other connections be served for at least `delay_s` seconds, then call `function`.

        Until then nothing is read: the input does not grow, and the client's end does not discard its requests.
        """
        self._is_detached = True
        self.server.pump.detach(self._fd)
        runtime.call_later(delay_s, self.server.pump.call_safely, self._end_pause, function, args)

    def _end_pause(self, function: Callable[..., object], args: Sequence[object]) -> None:
        if self._fd >= 0:
            self._is_detached = False
            self.server.pump.reattach(self._fd)
            function(*args)
