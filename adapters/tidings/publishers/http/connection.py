"""One HTTP/1.1 connection whose every wait ends at a deadline."""

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
    """A moment of the monotonic clock, in seconds."""

    at_s: float

    @classmethod
    def after(cls, timeout_s: float) -> Deadline:
        """The moment `timeout_s` seconds from now."""
        return cls(time.monotonic() + timeout_s)

    def left_s(self) -> float:
        """Seconds until then; negative when it has passed."""
        return self.at_s - time.monotonic()

    def wait_s(self) -> float:
        """Seconds that a system call may still take.

        Raises:
            TimedOut: none.
        """
        left_s = self.left_s()
        if left_s <= 0:
            raise TimedOut("the hub did not answer in time; publish again with the same id, or raise timeout_s")
        return left_s


@dataclass(frozen=True, slots=True)
class HubAddress:
    """Where the hub is: host and port, and TLS unless `tls` is None.

    `allows` says of each address that the host resolves to whether one may connect there; one that it
    does not allow refuses all, since the next look-up may answer with that one alone.
    """

    host: str
    port: int
    tls: ssl.SSLContext | None
    is_allowed: Callable[[str], bool] | None = None


class HubConnection(HTTPConnection):
    """One kept-alive connection to a hub.

    `deadline` is set before each exchange. `asked` says whether any byte of the current
    request may have left: after that a failure no longer means that nothing happened.
    """

    def __init__(self, address: HubAddress) -> None:
        super().__init__(address.host, address.port)
        self.address = address
        self.deadline = Deadline(0.0)
        self.request_started = False
        self.idle_since_s = 0.0

    def connect(self) -> None:
        """Open the connection: each address of the host in turn, all before the deadline."""
        wire = _reached(self.address, self.deadline)
        try:
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.address.tls is not None:
                wire.settimeout(self.deadline.wait_s())
                wire = self.address.tls.wrap_socket(wire, server_hostname=self.address.host)
        except BaseException:
            wire.close()
            raise
        # http.client uses only sendall, makefile and close of it.
        self.sock = cast("socket.socket", _DeadlineSocket(wire, self))

    @property
    def is_open(self) -> bool:
        """Whether the next request can go over the same connection."""
        return self.sock is not None

    def exchange(
        self, path: str, body: bytes | None, headers: dict[str, str], *, response_max_bytes: int
    ) -> tuple[int, bytes]:
        """Send one POST, or without a body a GET, and read its answer: status and body.

        Raises:
            TimedOut, OSError, http.client.HTTPException: the connection is of no use any more.
            Internal: the answer is longer than `answer_max_bytes`.
        """
        self.request_started = False
        self.request("GET" if body is None else "POST", path, body, headers)
        response = self.getresponse()
        said = response.read(response_max_bytes + 1)
        if len(said) > response_max_bytes:
            raise Internal(f"an answer of more than {response_max_bytes} bytes; is this URL a tidings hub?")
        if not response.isclosed():
            raise IncompleteRead(said)
        # http.client closes by itself when the answer says `Connection: close`.
        return response.status, said


def _reached(address: HubAddress, deadline: Deadline) -> socket.socket:
    # Resolving the name is the one wait that no timeout bounds: getaddrinfo takes none.
    last: OSError | None = None
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    if address.is_allowed is not None and not all(address.is_allowed(str(place[0])) for *_, place in found):
        raise OSError(f"{address.host} resolves to an address that is not allowed")
    # Connected to is what was checked: there is no second look-up.
    for family, kind, protocol, _, place in found:
        wire = socket.socket(family, kind, protocol)
        try:
            wire.settimeout(deadline.wait_s())
            wire.connect(place)
        except OSError as error:
            wire.close()
            last = error
        except BaseException:
            wire.close()
            raise
        else:
            return wire
    raise last or OSError(f"{address.host} has no address")


class _DeadlineSocket:
    """A socket as http.client wants it, with the link's deadline instead of a timeout per call.

    Like a socket's, its `close` takes effect when the files made of it are closed too: http.client
    closes the connection first and reads the last answer afterwards.
    """

    def __init__(self, wire: socket.socket, link: HubConnection) -> None:
        self._wire = wire
        self._link = link
        self._readers = 0
        self._closing = False

    def sendall(self, data: Buffer) -> None:
        self._link.request_started = True
        rest = memoryview(data)
        while rest:
            self._wire.settimeout(self._link.deadline.wait_s())
            rest = rest[self._wire.send(rest) :]

    def receive_into(self, buffer: Buffer) -> int:
        self._wire.settimeout(self._link.deadline.wait_s())
        return self._wire.recv_into(buffer)

    def makefile(self, _mode: str) -> io.BufferedReader:
        self._readers += 1
        return io.BufferedReader(_Reader(self))

    def released(self) -> None:
        self._readers -= 1
        if self._closing and self._readers == 0:
            self._wire.close()

    def close(self) -> None:
        self._closing = True
        if self._readers == 0:
            self._wire.close()


class _Reader(io.RawIOBase):
    """What is read from a wire, as a file. Closing it leaves the wire open for the next answer."""

    def __init__(self, wire: _DeadlineSocket) -> None:
        super().__init__()
        self._wire = wire

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        return self._wire.receive_into(buffer)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._wire.released()
