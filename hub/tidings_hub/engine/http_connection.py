"""The HTTP side of one accepted socket: heads, bodies, answers, keep-alive, and its deadlines.

A link that waits between requests, or for a poll's answer, holds no parser and no buffer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from tidings.errors import BadRequest, TooLarge
from tidings_hub import runtime
from tidings_hub.engine import http
from tidings_hub.engine.http import Body
from tidings_hub.engine.interfaces import TRANSPORT_CLOSE
from tidings_hub.engine.outbuffer import OutBuffer

if TYPE_CHECKING:
    from tidings_hub.engine.connection import Connection, Waiting
    from tidings_hub.engine.http import Head
    from tidings_hub.engine.server import EngineServer

_os = runtime.original("os")
_write = _os.write
_read = _os.read
_READ_BYTES = 65_536
_EPOLLOUT = 4
# A link without a deadline of its own (a waiting poll, a request in WSGI) is looked at again so often.
_LOOK_S = 30.0
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Exchange(Protocol):
    """Who answers the requests of one path."""

    def begin(self, link: Link, head: Head) -> int | None:
        """A head with a body to come: its limit in bytes, or None when it was refused."""

    def too_large(self, link: Link) -> None:
        """The body is larger than `begin` allowed."""

    def finish(self, link: Link, head: Head, body: bytes) -> None:
        """A complete request: answer it now or later."""

    def again(self, link: Link, line: bytes) -> bool:
        """A request whose header lines are those of the last one on this link, which was `finish`ed here.

        So the last one's route, remote address, origin and `link.extra` are right for it, if its request
        line names the same path. False: nothing was done, and the request goes the long way.
        """


class Waited(Protocol):
    """What a link's unanswered request waits for: a session, or another node's answer."""

    poll: Waiting | None

    def end(self, reason: str, number: int) -> None:
        """The client has gone."""


class Receiver(Protocol):
    """What a socket becomes after a handshake."""

    def hear_frames(self, data: bytes) -> None:
        """Bytes that came right behind the handshake."""


class Link:
    """Owns a descriptor while it speaks HTTP."""

    __slots__ = (
        "_again", "_body", "_bodyless", "_close", "_deadline_s", "_exchange", "_fd", "_head", "_in", "_lines", "_out",
        "_parted", "_reading", "_waiting", "_working", "address", "extra", "host", "posting", "refused", "relayed",
        "remote", "secure", "server", "slot",
    )  # fmt: skip

    def __init__(self, server: EngineServer, fd: int, address: tuple[str, int], *, refused: bool) -> None:
        self.server = server
        self.slot = -1
        # The header lines that every answer to this request needs.
        self.extra = b""
        self.remote = address[0]
        self.secure = False
        # The host that the client asked for, and whether another node passed the request on.
        self.host = ""
        self.relayed = False
        # Accepted only to be told that the node is full.
        self.refused = refused
        self.posting: Connection | None = None
        self._fd = fd
        self.address = address
        self._in = b""
        self._out: OutBuffer | None = None
        # The request whose body is being read, and who will answer it.
        self._head: Head | None = None
        self._exchange: Exchange | None = None
        self._body: Body | None = None
        self._waiting: Waited | None = None
        # Who answered the last request, and its header lines; none if the next one has to be looked at anew.
        self._again: Exchange | None = None
        self._lines = b""
        self._close = False
        self._parted = False
        self._working = False
        self._bodyless = False
        # Whether the deadline is that of an unfinished request.
        self._reading = True
        self._deadline_s = 0.0
        self._within(server.limits.head_timeout_s)

    # --- the pump and the wheel ---

    def event(self, mask: int) -> None:
        """Readable, writable or broken."""
        if mask & _EPOLLOUT:
            self._flush()
        if mask & ~_EPOLLOUT and self._fd >= 0 and not self._parted:
            self._receive()

    def abort(self) -> None:
        """Close at once."""
        self._gone()

    def resume(self) -> None:
        """An answer went out while more requests were waiting behind it."""
        if self._fd >= 0 and not self._busy:
            self.server.pump.unmute(self._fd)
            self._work()

    def due(self, now_s: float) -> float | None:
        """A deadline: of a head, a body, an answer that is not read, or an idle connection."""
        if self._fd < 0:
            return None
        if not self._deadline_s:
            return min(_LOOK_S, self.server.limits.idle_timeout_s)
        if now_s < self._deadline_s:
            return self._deadline_s - now_s
        if self._reading and (self._in or self._head is not None):
            self.server.metrics.http_timeouts += 1
            self.refuse(408, b"", close=True)
            return None
        if self._out is not None:
            self.server.metrics.http_unread += 1
        elif self._reading:
            # It never said anything: there is no request to answer.
            self.server.metrics.http_timeouts += 1
        else:
            self.server.metrics.http_idle += 1
        self._gone()
        return None

    def _within(self, seconds: float) -> None:
        self._deadline_s = runtime.now_s() + seconds
        self.server.wheel.put(self, seconds)

    def _idle(self) -> None:
        limits = self.server.limits
        if limits.idle_timeout_s < max(limits.head_timeout_s, limits.body_timeout_s):
            self._within(limits.idle_timeout_s)
        else:
            # The visit that is already planned is not later than this deadline: no need to move it.
            self._deadline_s = runtime.now_s() + limits.idle_timeout_s

    def _receive(self) -> None:
        try:
            data = _read(self._fd, _READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._gone()
            return
        if not data:
            self._ended()
            return
        again = self._again
        # One poll after the other is all that most links ever carry.
        if (
            again is not None
            and not self._in
            and data.endswith(self._lines)
            and not self._busy
            and again.again(self, data[: -len(self._lines)])
        ):
            self.server.metrics.http_requests += 1
            return
        self._in = self._in + data if self._in else data
        if not self._busy:
            self._work()
        elif len(self._in) >= self.server.limits.head_max_bytes:
            # Pipelined behind a request that is not answered yet: some is kept, the rest stays with the kernel.
            self.server.pump.mute(self._fd)

    def _ended(self) -> None:
        if self._out is None:
            self._gone()
        else:
            # It shut down its own half and still reads the answer.
            self._close = True
            self.server.pump.only_write(self._fd)

    # --- requests ---

    @property
    def _busy(self) -> bool:
        return self._waiting is not None or self._out is not None or self._parted

    def _work(self) -> None:
        if self._working:
            return
        self._working = True
        try:
            while self._in and not self._busy and self._fd >= 0 and self._step():
                pass
        except BadRequest as error:
            self.server.metrics.http_refused += 1
            self.refuse(400, str(error).encode(), kind=http.TEXT, close=True)
        finally:
            self._working = False

    def _step(self) -> bool:
        """Read one head, or the next part of a body; whether there may be more to do."""
        if self._head is None:
            return self._read_head()
        return self._read_body(self._head)

    def _read_head(self) -> bool:
        # RFC 9112 section 2.2: an empty line before a request is ignored.
        data = self._in[2:] if self._in.startswith(b"\r\n") else self._in
        end = data.find(http.END) + len(http.END)
        complete = end >= len(http.END)
        limit = self.server.limits.head_max_bytes
        if (end if complete else len(data)) > limit:
            self.server.metrics.http_refused += 1
            self.refuse(431, b"", close=True)
            return False
        if not complete:
            http.check_partial(data)
            self._in = data
            if not self._reading:
                self._reading = True
                self._within(self.server.limits.head_timeout_s)
            return False
        head = http.parse_head(data[:end])
        self._in = data[end:]
        self._begin(head)
        return True

    def _begin(self, head: Head) -> None:
        self.server.metrics.http_requests += 1
        self._reading = False
        self._close = not head.keep_alive
        self._bodyless = head.method == "HEAD"
        # While it is set, an answer comes before the request's end, and the connection cannot go on.
        self._head = head if head.has_body else None
        self._again = None
        exchange = self.server.route(self, head)
        if exchange is None:
            return
        if not head.has_body:
            exchange.finish(self, head, b"")
            if head.lines and head.keep_alive and self._fd >= 0:
                self._again, self._lines = exchange, head.lines
            return
        limit = exchange.begin(self, head)
        if limit is None:
            return
        self._exchange = exchange
        try:
            self._body = Body(head.length, limit)
        except TooLarge:
            exchange.too_large(self)
            return
        self._reading = True
        self._within(self.server.limits.body_timeout_s)
        if head.headers.get("expect", "").lower() == "100-continue" and not self._in:
            self._write_interim(_CONTINUE)

    def _read_body(self, head: Head) -> bool:
        body, exchange = self._body, self._exchange
        if body is None or exchange is None:
            return False
        try:
            self._in = body.feed(self._in) or b""
        except TooLarge:
            exchange.too_large(self)
            return False
        if not body.done:
            return False
        self._head = self._body = self._exchange = None
        self._reading = False
        exchange.finish(self, head, body.data)
        return True

    def _write_interim(self, blob: bytes) -> None:
        try:
            whole = _write(self._fd, blob) == len(blob)
        except OSError:
            whole = False
        if not whole:
            self._gone()

    # --- answers ---

    def wait(self, waited: Waited) -> None:
        """The request is answered when `waited` has something to say; it is told if the client goes before."""
        self._waiting = waited
        self._deadline_s = 0.0

    def answer(self, response: bytes) -> None:
        """Send a complete answer; never blocks, never raises."""
        if self._fd < 0:
            return
        try:
            written: int = _write(self._fd, response)
        except (BlockingIOError, InterruptedError):
            written = 0
        except OSError:
            self._gone()
            return
        self._waiting = None
        if written == len(response):
            self._answered()
            return
        self._out = OutBuffer()
        self._out.add_rest(response, written)
        self.server.pump.want_write(self._fd, want=True)
        self._within(self.server.limits.answer_timeout_s)

    def pass_on(self, response: bytes, *, keep_alive: bool) -> None:
        """Send another node's answer as it is."""
        self._close = self._close or not keep_alive
        self.answer(response)

    def refuse(self, status: int, body: bytes, *, kind: bytes = http.JSON, close: bool = False) -> None:
        """Answer with an error. The connection ends when `close`, or when the request was not read to its end."""
        extra = self.extra
        if (close or self._head is not None) and not self._close:
            self._close = True
            extra += http.CLOSE
        self._head = self._body = self._exchange = None
        self._reading = False
        if self._close:
            self._in = b""
        self.answer(http.response(status, b"" if self._bodyless else body, kind=kind, extra=extra))

    def _answered(self) -> None:
        if self._close:
            fd = self._let_go()
            self.server.pump.linger(fd, None, b"")
            return
        self._idle()
        if self._in and not self._working:
            runtime.call_soon(self.server.pump.resume, self)

    def _flush(self) -> None:
        if self._out is None:
            return
        try:
            done = self._out.flush(self._fd)
        except OSError:
            self._gone()
            return
        if done:
            self._out = None
            self.server.pump.want_write(self._fd, want=False)
            self._answered()

    # --- giving the descriptor away ---

    def switch(self, answer: bytes) -> int | None:
        """Answer a handshake and give the descriptor away; None: the connection broke."""
        self._write_interim(answer)
        self._waiting = None
        return self._let_go() if self._fd >= 0 else None

    def take(self) -> int:
        """Give the descriptor away with its request unanswered."""
        return self._let_go()

    def hand_bytes_to(self, receiver: Receiver) -> None:
        """Bytes that came behind the handshake belong to what the socket became."""
        data, self._in = self._in, b""
        if data:
            receiver.hear_frames(data)

    def part(self) -> None:
        """The request is being answered elsewhere: no events until `rejoin`."""
        self._parted = True
        self._deadline_s = 0.0
        self.server.pump.part(self._fd)

    def rejoin(self, response: bytes, *, keep_alive: bool) -> None:
        """The answer from elsewhere; then the next request."""
        if self._fd < 0:
            return
        self._parted = False
        self.server.pump.rejoin(self._fd)
        self._close = self._close or not keep_alive
        self.answer(response)

    def _let_go(self) -> int:
        fd, self._fd = self._fd, -1
        self.server.wheel.drop(self)
        return fd

    def _gone(self) -> None:
        if self._fd < 0:
            return
        self.server.pump.close(self._let_go())
        waiting, self._waiting = self._waiting, None
        posting, self.posting = self.posting, None
        if waiting is not None:
            waiting.poll = None
            waiting.end(TRANSPORT_CLOSE, 0)
        if posting is not None and not posting.closed:
            posting.post = None
            posting.end(TRANSPORT_CLOSE, 0)
