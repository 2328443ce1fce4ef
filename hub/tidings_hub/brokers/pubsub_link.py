"""The subscriber link: one connection to Redis that only receives (pub/sub in RESP2).

redis-py opens the connection. From then on this module reads its socket, up to 256 KiB at once, and parses with
`hiredis`. So no object is created per message except those of hiredis.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any, ClassVar

from tidings.redis_client.scripts import pack
from tidings.redis_client.url import RedisAddress

_READ_BYTES = 256 * 1024
# Redis reads at once, unless it stands still. Then the link breaks: the reader notices after the same time.
_SEND_TIMEOUT_S = 4.0


class LinkDown(Exception):
    """The link broke or must be closed. The message has the cause and contains no secrets."""


class MessageTooLarge(LinkDown):
    """The link must be closed because of one message that would take too much memory."""


class PubSubLink:
    """One connection. One greenlet reads; any greenlet may send.

    A message that is not complete after `max_bytes` breaks the link. Redis itself allows 512 MB.
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
        """Send a subscription to these pub/sub channels."""
        self._send(pack(self._subscribe, *names))

    def unsubscribe(self, names: Sequence[bytes]) -> None:
        """Send an unsubscription from these pub/sub channels."""
        self._send(pack(self._unsubscribe, *names))

    def ping(self, token: bytes) -> None:
        """Send a PING. Its reply arrives after every message that Redis sent before."""
        self._send(pack(b"PING", token))

    def _send(self, packed: bytes) -> None:
        end_s = time.monotonic() + _SEND_TIMEOUT_S
        # Two greenlets must not write to one socket at the same time.
        if not self._lock.acquire(timeout=_SEND_TIMEOUT_S):
            raise LinkDown("cannot write to Redis: it does not read")
        try:
            rest = memoryview(packed)
            while rest:
                # `sendall` has a timeout for each part only, and the lock must not be held for longer than one.
                self._socket.settimeout(max(0.001, end_s - time.monotonic()))
                rest = rest[self._socket.send(rest) :]
        except OSError as error:
            # A part of the commands may be sent, so the link is useless.
            self.interrupt()
            raise LinkDown(f"cannot write to Redis: {error}") from error
        finally:
            self._lock.release()

    def read(self, timeout_s: float) -> list[Any]:
        """All complete items of one read; empty if nothing arrived within `timeout_s`."""
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
            raise LinkDown("received data that is not Redis' protocol") from error
        if items:
            self._pending_bytes = 0
        elif self._pending_bytes > self._max_bytes:
            raise MessageTooLarge(f"a message of more than {self._max_bytes} bytes (link_max_bytes)")

    def pop_bytes_read(self) -> int:
        """Bytes read since the last call."""
        count, self._bytes_read = self._bytes_read, 0
        return count

    def interrupt(self) -> None:
        """Make a waiting `read` raise LinkDown. Any greenlet may call this."""
        import socket

        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            # Already closed by the other side, which ends the read as well.
            return

    def close(self) -> None:
        """Close the connection. Idempotent. Only the reading greenlet may call this."""
        self._connection.disconnect()


class ShardedPubSubLink(PubSubLink):
    """A link to the master of one slot of a cluster, by sharded pub/sub. `read` returns items named as without shards.

    Redis cancels all subscriptions when the slot moves. `anchor` is a channel that this node never unsubscribes. When
    Redis cancels it, the link breaks, and the next link connects to the node that serves the slot then.
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


def pong_token(item: Any) -> bytes | None:
    """The token of a reply to PING: a list while subscribed (RESP2), otherwise the token alone. None: no such reply."""
    if isinstance(item, bytes):
        return item
    if isinstance(item, list) and len(item) == 2 and item[0] == b"pong":
        return bytes(item[1])
    return None


def message_bytes(item: Any) -> int:
    """The size of a pub/sub message in bytes; 0 for any other item."""
    if isinstance(item, list) and len(item) == 3 and isinstance(item[2], bytes):
        return len(item[2])
    return 0
