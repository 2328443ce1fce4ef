"""One connection to another node; it carries one request at a time, and nobody but the pump waits for the answer."""

from __future__ import annotations

import errno
import re
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from tidings_hub import runtime
from tidings_hub.engine import http
from tidings_hub.engine.outbuffer import OutBuffer
from tidings_hub.engine.relay.splice import Splice

if TYPE_CHECKING:
    from tidings_hub.engine.connection import Waiting
    from tidings_hub.engine.http_connection import Link
    from tidings_hub.engine.relay.relay import Relay

_os = runtime.original("os")
_read = _os.read
_socket: Any = runtime.original("socket")
_READ_BYTES = 65_536
_EPOLLOUT = 4
UNIX = "unix:"
_IPV6 = 6
# The heads of our own answers, as http.response writes them.
_LENGTH = re.compile(rb"\r\nContent-Length: ([0-9]{1,12})\r\n")
_SWITCHING, _NO_CONTENT = b"101", b"204"
_HEAD_MAX_BYTES = 16_384
# An answer holds what waited for the session: its out-buffer, one publication more, and escapes of a proxy's own.
_ANSWERS_OF_BUFFER = 2
_IDLE_MAX_S = 30.0


def connected(address: str) -> int:
    """A descriptor that is connecting to `host:port` or `unix:path`. The host is an address, never a name.

    Raises:
        OSError: it cannot be reached, as far as that is known at once.
    """
    target: str | tuple[str, int]
    if address.startswith(UNIX):
        family, target = _socket.AF_UNIX, address.removeprefix(UNIX)
    else:
        host, _, port = address.rpartition(":")
        family, target = _endpoint(host.strip("[]"), port)
    made = _socket.socket(family, _socket.SOCK_STREAM)
    try:
        made.settimeout(0)
        if family != _socket.AF_UNIX:
            made.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        try:
            made.connect(target)
        except BlockingIOError:
            # A TCP handshake takes its time. A unix socket whose queue is full takes nobody.
            if family == _socket.AF_UNIX:
                raise
    except BaseException:
        made.close()
        raise
    fd: int = made.detach()
    return fd


def _endpoint(host: str, port: str) -> tuple[int, tuple[str, int]]:
    try:
        version = ip_address(host).version
        return (_socket.AF_INET6 if version == _IPV6 else _socket.AF_INET), (host, int(port))
    except ValueError:
        # A name would have to be looked up, and nothing may wait here.
        raise OSError(errno.EINVAL, "not an address of a node") from None


class Upstream:
    """Owns a descriptor to `owner` at `address`."""

    __slots__ = (
        "_deadline_s", "_fd", "_in", "_link", "_out", "_relay", "_upgrade", "_wait_s", "_wants", "address", "owner",
        "poll", "slot",
    )  # fmt: skip

    def __init__(self, relay: Relay, fd: int, owner: str, address: str) -> None:
        self.slot = -1
        self.owner = owner
        self.address = address
        # Links clear it when their client goes; nothing here needs it.
        self.poll: Waiting | None = None
        self._relay = relay
        self._fd = fd
        self._in = b""
        self._out: OutBuffer | None = None
        self._link: Link | None = None
        self._upgrade = False
        self._wait_s = 0.0
        self._wants = False
        self._deadline_s = 0.0
        relay.sockets += 1
        relay.shared.pump.add(fd, self)

    def carry(self, link: Link, request: bytes, *, wait_s: float, upgrade: bool) -> None:
        """Send a request of `link`, and its answer back within `wait_s`."""
        self._link = link
        self._upgrade = upgrade
        self._wait_s = wait_s
        link.wait(self)
        self._out = OutBuffer()
        self._out.add(request)
        self._within(self._relay.shared.limits.relay_timeout_s)
        self._flush()

    # --- the pump, the wheel, and the client's link ---

    def event(self, mask: int) -> None:
        """Writable, readable or broken."""
        if mask & _EPOLLOUT:
            self._flush()
        if mask & ~_EPOLLOUT and self._fd >= 0:
            self._receive()

    def abort(self) -> None:
        """Something of ours failed."""
        self.fail()

    def due(self, now_s: float) -> float | None:
        """The node was not reached, or did not answer; or nobody needed this connection for a while."""
        if self._fd < 0:
            return None
        if now_s < self._deadline_s:
            return self._deadline_s - now_s
        self.fail()
        return None

    def end(self, _reason: str, _number: int) -> None:
        """The client has gone: so is its request, and the owner sees it go."""
        self._link = None
        self._close()

    def fail(self) -> None:
        """No answer will come."""
        link, self._link = self._link, None
        self._close()
        if link is not None:
            self._relay.refuse(link)

    # --- the request and its answer ---

    def _within(self, seconds: float) -> None:
        self._deadline_s = runtime.now_s() + seconds
        self._relay.shared.wheel.put(self, seconds)

    def _flush(self) -> None:
        out = self._out
        if out is None:
            return
        try:
            done = out.flush(self._fd)
        except OSError:
            self.fail()
            return
        if self._wants is done:
            self._wants = not done
            self._relay.shared.pump.want_write(self._fd, want=self._wants)
        if done:
            self._out = None
            self._within(self._wait_s)

    def _receive(self) -> None:
        try:
            data = _read(self._fd, _READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        # An idle connection has nothing to say but its end.
        if not data or self._link is None:
            self.fail()
            return
        self._in = self._in + data if self._in else data
        self._parse(self._link)

    def _parse(self, link: Link) -> None:
        end = self._in.find(http.END) + len(http.END)
        if end < len(http.END):
            if len(self._in) > _HEAD_MAX_BYTES:
                self.fail()
            return
        head = self._in[:end]
        status = head[9:12]
        if status == _SWITCHING and self._upgrade:
            self._switch(link, head)
            return
        found = _LENGTH.search(head)
        length = 0 if status == _NO_CONTENT else int(found[1]) if found is not None else -1
        limit = _ANSWERS_OF_BUFFER * self._relay.shared.limits.out_buffer_bytes + _HEAD_MAX_BYTES
        if length < 0 or end + length > limit or len(self._in) > end + length:
            self.fail()
        elif len(self._in) == end + length:
            self._answer(link, head)

    def _answer(self, link: Link, head: bytes) -> None:
        answer, self._in = self._in, b""
        self._link = None
        keep_alive = http.CLOSE not in head
        self._relay.ended(self.owner, self)
        idle_s = min(self._relay.shared.limits.idle_timeout_s / 2, _IDLE_MAX_S)
        if keep_alive and idle_s and self._out is None and self._relay.keep(self):
            # Shorter than the other node keeps it: a request must not meet a closing connection.
            self._within(idle_s)
        else:
            self._close()
        link.pass_on(answer, keep_alive=keep_alive)

    def _switch(self, link: Link, head: bytes) -> None:
        rest, self._in = self._in[len(head) :], b""
        client = link.switch(head)
        if client is None:
            # Its link has told `end`.
            return
        self._link = None
        fd, self._fd = self._fd, -1
        self._relay.shared.wheel.drop(self)
        self._relay.ended(self.owner, self)
        splice = Splice(self._relay, self.owner, client, fd)
        splice.begin(rest)
        link.hand_bytes_to(splice)

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        self._out = None
        relay = self._relay
        relay.sockets -= 1
        relay.shared.wheel.drop(self)
        relay.ended(self.owner, self)
        relay.forget(self)
        relay.shared.pump.close(fd)
