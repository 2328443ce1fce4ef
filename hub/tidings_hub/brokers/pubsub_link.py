"""The subscriber link: one connection to Redis that only listens (pub/sub in RESP2).

redis-py makes the connection; from then on its socket is driven here, with `hiredis` parsing up to
256 KiB at once: no object per message but what hiredis makes.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, ClassVar

from tidings.redis_client.scripts import pack
from tidings.redis_client.url import RedisAddress

_READ_BYTES = 256 * 1024


class LinkDown(Exception):
    """The link broke, or has to be given up; the message says why, without secrets."""


class MessageTooLarge(LinkDown):
    """The link was given up because of one message; reading it to its end would cost too much memory."""


class PubSubLink:
    """One connection. One greenlet reads; any may send.

    A message that is not complete after `max_bytes` breaks the link: Redis would let it grow to 512 MB.
    """

    _subscribe = b"SUBSCRIBE"
    _unsubscribe = b"UNSUBSCRIBE"

    def __init__(self, address: RedisAddress, *, timeout_s: float, max_bytes: int) -> None:
        import hiredis

        self._connection: Any = address.connect(timeout_s=timeout_s)
        self._socket: Any = self._connection._sock  # noqa: SLF001 - redis-py has no public way to its socket
        self._reader = hiredis.Reader()
        self._max_bytes = max_bytes
        self._pending_bytes = 0
        self._lock = threading.Lock()
        self._bytes_read = 0

    def subscribe(self, names: Sequence[bytes]) -> None:
        """Ask for these pub/sub channels."""
        self._send(pack(self._subscribe, *names))

    def unsubscribe(self, names: Sequence[bytes]) -> None:
        """Give up these pub/sub channels."""
        self._send(pack(self._unsubscribe, *names))

    def ping(self, token: bytes) -> None:
        """Ask for an answer that comes after everything that was sent before it."""
        self._send(pack(b"PING", token))

    def _send(self, packed: bytes) -> None:
        # Two greenlets may not write to one socket at once.
        with self._lock:
            try:
                self._socket.sendall(packed)
            except OSError as error:
                raise LinkDown(f"cannot write to Redis: {error}") from error

    def read(self, timeout_s: float) -> list[Any]:
        """All complete items that one read brings; empty when nothing came within `timeout_s`."""
        items: list[Any] = []
        while not items:
            try:
                self._socket.settimeout(timeout_s)
                data = self._socket.recv(_READ_BYTES)
            except TimeoutError:
                return []
            except OSError as error:
                raise LinkDown(f"cannot read from Redis: {error}") from error
            if not data:
                raise LinkDown("Redis closed the connection")
            self._feed(data, items)
        return items

    def _feed(self, data: bytes, items: list[Any]) -> None:
        import hiredis

        self._bytes_read += len(data)
        self._pending_bytes += len(data)
        try:
            self._reader.feed(data)
            item = self._reader.gets()
            while item is not False:
                items.append(item)
                item = self._reader.gets()
        except hiredis.ProtocolError as error:
            raise LinkDown("what came is not Redis' protocol") from error
        if items:
            self._pending_bytes = 0
        elif self._pending_bytes > self._max_bytes:
            raise MessageTooLarge(f"a message of more than {self._max_bytes} bytes (link_max_bytes)")

    def pop_bytes_read(self) -> int:
        """Bytes read since the last call."""
        found, self._bytes_read = self._bytes_read, 0
        return found

    def interrupt(self) -> None:
        """Make a waiting `read` end with LinkDown; from any greenlet."""
        import socket

        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            # Already closed by the other side, which ends the read as well.
            return

    def close(self) -> None:
        """Close the connection. Idempotent; only for the greenlet that reads."""
        self._connection.disconnect()


class ShardedPubSubLink(PubSubLink):
    """A link to the master of one slot of a cluster: sharded pub/sub, whose items `read` names as the other's.

    Redis takes all subscriptions back when the slot moves away. `anchor` is a name that nobody gives up: when it
    is taken back, the link breaks, and the next one leads to where the slot is now.
    """

    _subscribe = b"SSUBSCRIBE"
    _unsubscribe = b"SUNSUBSCRIBE"
    _names: ClassVar = {b"smessage": b"message", b"ssubscribe": b"subscribe", b"sunsubscribe": b"unsubscribe"}

    def __init__(self, address: RedisAddress, anchor: bytes, *, timeout_s: float, max_bytes: int) -> None:
        super().__init__(address, timeout_s=timeout_s, max_bytes=max_bytes)
        self._anchor = anchor

    def read(self, timeout_s: float) -> list[Any]:
        """See `PubSubLink.read`."""
        items = super().read(timeout_s)
        for item in items:
            name = self._names.get(item[0]) if isinstance(item, list) and len(item) == 3 else None
            if name is not None:
                item[0] = name
                if name == b"unsubscribe" and item[1] == self._anchor:
                    raise LinkDown("the bucket's slot moved to another node")
        return items
