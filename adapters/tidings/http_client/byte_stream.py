"""Bytes over a socket, with and without TLS. Every wait ends at the deadline that its call gets.

The timeout of a socket limits one system call, so a peer that sends a byte at a time could hold a call forever. Here
each system call gets the time that is left. TLS runs over memory buffers (`ssl.MemoryBIO`), because the handshake of
gevent's and eventlet's TLS sockets has a timeout per read only.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

from tidings.http_client.deadline import Deadline

if TYPE_CHECKING:
    from typing_extensions import Buffer

T = TypeVar("T")
# One TLS record has at most 16 KiB.
_READ_BYTES = 65_536


class ByteStream(Protocol):
    """A connected stream."""

    def send(self, data: Buffer, deadline: Deadline) -> None:
        """Send all of `data`. Raises OSError, and TimeoutError at the deadline."""

    def receive(self, deadline: Deadline) -> bytes:
        """Some bytes, or none at the end of the stream. Raises OSError, and TimeoutError at the deadline."""

    def has_input(self) -> bool:
        """Whether bytes, the end of the stream or an error can be read without waiting."""

    def close(self) -> None:
        """Close the socket. Idempotent."""


class PlainStream:
    """A socket without TLS."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def send(self, data: Buffer, deadline: Deadline) -> None:
        """See `ByteStream.send`."""
        rest = memoryview(data)
        while rest:
            self._socket.settimeout(deadline.wait_s())
            rest = rest[self._socket.send(rest) :]

    def receive(self, deadline: Deadline) -> bytes:
        """See `ByteStream.receive`."""
        self._socket.settimeout(deadline.wait_s())
        return self._socket.recv(_READ_BYTES)

    def has_input(self) -> bool:
        """See `ByteStream.has_input`."""
        self._socket.settimeout(0)
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            return True
        return True

    def close(self) -> None:
        """See `ByteStream.close`."""
        self._socket.close()


class TlsStream:
    """TLS over a `PlainStream`. Creating it does the handshake.

    Raises:
        OSError: the handshake failed (`ssl.SSLError`), or did not end before the deadline.
    """

    def __init__(self, plain: PlainStream, context: ssl.SSLContext, host: str, deadline: Deadline) -> None:
        self._plain = plain
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        try:
            self._run(deadline, self._tls.do_handshake)
        except ssl.SSLError:
            # The alert reports the reason to the server. Whether it arrives does not matter.
            with contextlib.suppress(OSError):
                self._flush(deadline)
            raise

    def send(self, data: Buffer, deadline: Deadline) -> None:
        """See `ByteStream.send`."""
        rest = memoryview(data)
        while rest:
            rest = rest[self._run(deadline, self._tls.write, rest[:_READ_BYTES]) :]

    def receive(self, deadline: Deadline) -> bytes:
        """See `ByteStream.receive`. An end without TLS's own end of the stream is an error: it may be forged."""
        try:
            return self._run(deadline, self._tls.read, _READ_BYTES)
        except ssl.SSLZeroReturnError:
            return b""

    def has_input(self) -> bool:
        """See `ByteStream.has_input`."""
        return self._tls.pending() > 0 or self._incoming.pending > 0 or self._plain.has_input()

    def close(self) -> None:
        """See `ByteStream.close`."""
        self._plain.close()

    def _run(self, deadline: Deadline, step: Callable[..., T], *arguments: object) -> T:
        while True:
            try:
                result = step(*arguments)
            except ssl.SSLWantReadError:
                self._flush(deadline)
                data = self._plain.receive(deadline)
                if data:
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
            else:
                self._flush(deadline)
                return result

    def _flush(self, deadline: Deadline) -> None:
        if self._outgoing.pending:
            self._plain.send(self._outgoing.read(), deadline)
