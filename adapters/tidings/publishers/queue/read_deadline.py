"""One deadline for what py-amqp reads.

Its own timeout is one per read: a server that sends a byte now and then keeps a login, or any other answer, going for
as long as it likes. So each connection gets `read_deadline_s`, a time of `time.monotonic`, and every read ends by then.
"""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Callable
from typing import Any


def bound_reads(transport: Any, *, end_s: float) -> None:
    """Make the reads of kombu's `transport` for py-amqp end in time. Until `end_s`, its next connection must log in."""
    connection_class = _with_deadline(transport.Connection)

    def connect(**options: Any) -> Any:
        connection = connection_class(**options)
        connection.read_deadline_s = end_s
        return connection

    transport.Connection = connect


def _with_deadline(connection_class: Any) -> Any:
    """A subclass of py-amqp's Connection with `read_deadline_s`."""

    class BoundedConnection(connection_class):  # type: ignore[misc]
        read_deadline_s = math.inf

        def Transport(self, *arguments: Any, **options: Any) -> Any:  # noqa: N802 - py-amqp's name
            transport = super().Transport(*arguments, **options)
            _bound_transport(transport, lambda: self.read_deadline_s)
            return transport

    return BoundedConnection


def _bound_transport(transport: Any, deadline_s: Callable[[], float]) -> None:
    """Replace the steps of py-amqp's transport that wait: connect to each address, TLS handshake, read."""
    set_up = transport._setup_transport  # noqa: SLF001 - py-amqp has no other place for it

    def left_s() -> float:
        left = deadline_s() - time.monotonic()
        if left <= 0:
            raise TimeoutError("no time left to read")
        return left

    def connect(host: str, port: int, timeout_s: float) -> None:
        error: OSError = TimeoutError("no address to connect to")
        candidates = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for remaining, (family, kind, protocol, _, address) in zip(
            range(len(candidates), 0, -1), candidates, strict=True
        ):
            transport.sock = socket.socket(family, kind, protocol)
            try:
                # An address that does not respond must leave time for the others.
                transport.sock.settimeout(min(timeout_s, left_s() / remaining))
                transport.sock.connect(address)
            except OSError as failed:
                transport.sock.close()
                error = failed
            else:
                return
        raise error

    def set_up_bounded() -> None:
        transport.connect_timeout = min(transport.connect_timeout, left_s())
        set_up()
        read_once = transport._quick_recv  # noqa: SLF001 - as above

        def read(size: int) -> Any:
            if deadline_s() == math.inf:
                return read_once(size)
            timeout_s = transport.sock.gettimeout()
            transport.sock.settimeout(left_s() if timeout_s is None else min(timeout_s, left_s()))
            try:
                return read_once(size)
            finally:
                transport.sock.settimeout(timeout_s)

        transport._quick_recv = read  # noqa: SLF001 - as above

    transport._connect, transport._setup_transport = connect, set_up_bounded  # noqa: SLF001 - as above
