"""One HTTP/1.1 connection on which every wait ends at a deadline."""

from __future__ import annotations

import io
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPConnection, IncompleteRead
from typing import TYPE_CHECKING, cast

from tidings.errors import Internal, TimedOut

if TYPE_CHECKING:
    from typing_extensions import Buffer


@dataclass(slots=True)
class Deadline:
    """A time of the monotonic clock, in seconds."""

    at_s: float

    @classmethod
    def after(cls, timeout_s: float) -> Deadline:
        """The deadline `timeout_s` seconds from now."""
        return cls(time.monotonic() + timeout_s)

    def left_s(self) -> float:
        """Seconds until the deadline; negative after it."""
        return self.at_s - time.monotonic()

    def wait_s(self) -> float:
        """Seconds until the deadline, for the timeout of a system call.

        Raises:
            TimedOut: the deadline has passed.
        """
        left_s = self.left_s()
        if left_s <= 0:
            raise TimedOut("the hub did not answer in time; publish again with the same id, or raise timeout_s")
        return left_s


@dataclass(frozen=True, slots=True)
class HubAddress:
    """Where a hub is: host and port, and TLS unless `tls` is None.

    `is_allowed(ip)` is called with each address that the host resolves to. If one is not allowed, the connection is
    refused: the next look-up may return only that address.
    """

    host: str
    port: int
    tls: ssl.SSLContext | None
    is_allowed: Callable[[str], bool] | None = None


class HubConnection(HTTPConnection):
    """One keep-alive connection to a hub.

    Set `deadline` before each exchange. `request_started`: bytes of the current request may have been sent, so the hub
    may have processed it even if the exchange fails.
    """

    def __init__(self, address: HubAddress) -> None:
        super().__init__(address.host, address.port)
        self.address = address
        self.deadline = Deadline(0.0)
        self.request_started = False
        self.idle_since_s = 0.0

    def connect(self) -> None:
        """Connect to the first address of the host that accepts, before the deadline."""
        sock = _open_socket(self.address, self.deadline)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.address.tls is not None:
                sock.settimeout(self.deadline.wait_s())
                sock = self.address.tls.wrap_socket(sock, server_hostname=self.address.host)
        except BaseException:
            sock.close()
            raise
        # Of a socket http.client uses only sendall, makefile and close.
        self.sock = cast("socket.socket", _DeadlineSocket(sock, self))

    @property
    def is_open(self) -> bool:
        """Whether the next request can use this connection."""
        return self.sock is not None

    def exchange(
        self, path: str, body: bytes | None, headers: dict[str, str], *, response_max_bytes: int
    ) -> tuple[int, bytes]:
        """Send one POST, or a GET if `body` is None, and return the response's status and body.

        Raises:
            TimedOut, OSError, http.client.HTTPException: the connection must be closed.
            Internal: the response is longer than `response_max_bytes`.
        """
        self.request_started = False
        self.request("GET" if body is None else "POST", path, body, headers)
        response = self.getresponse()
        content = response.read(response_max_bytes + 1)
        if len(content) > response_max_bytes:
            raise Internal(f"a response of more than {response_max_bytes} bytes; is this the URL of a tidings hub?")
        if not response.isclosed():
            raise IncompleteRead(content)
        # http.client closes the socket itself after a response with `Connection: close`.
        return response.status, content


def _open_socket(address: HubAddress, deadline: Deadline) -> socket.socket:
    # No timeout bounds the name look-up: getaddrinfo takes none.
    last_error: OSError | None = None
    candidates = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    if address.is_allowed is not None and not all(address.is_allowed(str(sockaddr[0])) for *_, sockaddr in candidates):
        raise OSError(f"{address.host} resolves to an address that is not allowed")
    # These are the checked addresses: there is no second look-up.
    for family, kind, protocol, _, sockaddr in candidates:
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(deadline.wait_s())
            sock.connect(sockaddr)
        except OSError as error:
            sock.close()
            last_error = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise last_error or OSError(f"{address.host} has no address")


class _DeadlineSocket:
    """A socket for http.client that uses the connection's deadline instead of a timeout per call.

    As with a socket, `close` takes effect once the files made from it are closed too: http.client closes the
    connection first and reads the last response afterwards.
    """

    def __init__(self, sock: socket.socket, connection: HubConnection) -> None:
        self._sock = sock
        self._connection = connection
        self._readers = 0
        self._closing = False

    def sendall(self, data: Buffer) -> None:
        self._connection.request_started = True
        rest = memoryview(data)
        while rest:
            self._sock.settimeout(self._connection.deadline.wait_s())
            rest = rest[self._sock.send(rest) :]

    def receive_into(self, buffer: Buffer) -> int:
        self._sock.settimeout(self._connection.deadline.wait_s())
        return self._sock.recv_into(buffer)

    def makefile(self, _mode: str) -> io.BufferedReader:
        self._readers += 1
        return io.BufferedReader(_Reader(self))

    def on_reader_closed(self) -> None:
        self._readers -= 1
        if self._closing and self._readers == 0:
            self._sock.close()

    def close(self) -> None:
        self._closing = True
        if self._readers == 0:
            self._sock.close()


class _Reader(io.RawIOBase):
    """The reading side of a `_DeadlineSocket` as a file. Closing it keeps the socket open for the next response."""

    def __init__(self, sock: _DeadlineSocket) -> None:
        super().__init__()
        self._socket = sock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        return self._socket.receive_into(buffer)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._socket.on_reader_closed()
