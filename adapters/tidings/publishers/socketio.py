"""Publishing to Socket.IO servers on Node with `@socket.io/redis-adapter`. Channels are their rooms.

    socketio+redis://[user:password@]host[:port][/db][?key=socket.io&nsp=/]      socketio+rediss://, socketio+unix://,
    socketio+redis+sentinel://                                                   … as in `redis_client/url.py`

Source: the messages of @socket.io/redis-emitter 5.1.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from urllib.parse import urlencode

from tidings.backoff import delay_s
from tidings.errors import BadConfig, BadData, BadRequest, TidingsError, TimedOut, Unavailable
from tidings.http_client.hosts import check_unicode
from tidings.publishers.base import CLOSED, OutgoingPublication, PublishResult
from tidings.publishers.threaded import ThreadedPublisher
from tidings.receipts import Receipt
from tidings.redis_client.connection import ConnectionLost, RedisPool, error_text
from tidings.redis_client.scripts import pack
from tidings.redis_client.url import RedisAddress
from tidings.redis_client.url_options import read_query
from tidings.wire.msgpack import msgpack_module
from tidings.wire.msgpack import pack as pack_value
from tidings.wire.publication import split_body

SCHEME = "socketio+"
_UID = "emitter"
_EVENT = 2
_BASE_S = 0.02
_CAP_S = 0.5
# A connection that was idle for longer is checked before a publish, so that the publish does not end in a `TimedOut`.
_IDLE_S = 0.5


class SocketioPublisher:
    """A `Publisher` for socketio+redis:// URLs.

    A receipt means that at least one server received the message. It has no cursor: servers do not number or store
    messages. Without a server the result is `Unavailable`. Servers ignore ids, so a publish that is repeated after
    `TimedOut` may be delivered twice.

    Raises:
        BadConfig: an invalid URL. MissingExtra: msgpack is not installed.
    """

    def __init__(self, url: str) -> None:
        msgpack_module()
        try:
            check_unicode(url)
        except ValueError as error:
            raise BadConfig("the URL is not UTF-8") from error
        base_url, _, query = url.removeprefix(SCHEME).partition("?")
        options = read_query(query)
        self._key, self._nsp = options.pop("key", "socket.io"), options.pop("nsp", "/")
        if not self._key or not self._nsp.startswith("/"):
            raise BadConfig("key must not be empty, and nsp must begin with /")
        self._pool = RedisPool(RedisAddress.open(f"{base_url}?{urlencode(options)}" if options else base_url))
        self._used_s = 0.0
        self._closed = False

    def publish(self, items: Sequence[OutgoingPublication], *, timeout_s: float) -> list[PublishResult]:
        """See `Publisher.publish`."""
        deadline_s = time.monotonic() + timeout_s
        messages = [self._message(item) for item in items]
        packed = [message for message in messages if isinstance(message, bytes)]
        replies = iter(self._send(packed, deadline_s))
        return [
            message if isinstance(message, TidingsError) else self._result(item, next(replies))
            for item, message in zip(items, messages, strict=True)
        ]

    def _message(self, item: OutgoingPublication) -> bytes | TidingsError:
        event, data_json = split_body(item.body)
        packet = {"type": _EVENT, "data": [event, json.loads(data_json)], "nsp": self._nsp}
        options = {"rooms": [item.channel], "flags": {}, "except": list[str]()}
        try:
            message = pack_value([_UID, packet, options])
        except BadRequest as error:
            return BadData(str(error))
        return pack(b"PUBLISH", f"{self._key}#{self._nsp}#{item.channel}#".encode(), message)

    def _send(self, packed: Sequence[bytes], deadline_s: float) -> list[object]:
        """One reply per command. Retried until the deadline if nothing was sent, but not if the outcome is unknown."""
        if not packed:
            return []
        attempt = 0
        while True:
            if self._closed:
                return [Unavailable(CLOSED)] * len(packed)
            try:
                self._check_idle(deadline_s)
                replies: list[object] = self._pool.call(b"".join(packed), len(packed), (), deadline_s=deadline_s)
            except ConnectionLost as error:
                self._pool.close()
                if error.sent:
                    return [TimedOut(f"{error}. It may or may not be published; Socket.IO servers ignore ids")] * len(
                        packed
                    )
                pause_s = delay_s(attempt, base_s=_BASE_S, cap_s=_CAP_S)
                if error.final or time.monotonic() + pause_s >= deadline_s:
                    return [Unavailable(f"not published: {error}")] * len(packed)
                attempt += 1
                time.sleep(pause_s)
            else:
                self._used_s = time.monotonic()
                return replies

    def _check_idle(self, deadline_s: float) -> None:
        """Send a PING on a connection that was idle, to find out whether it still works."""
        if time.monotonic() - self._used_s < _IDLE_S:
            return
        try:
            self._pool.call(pack(b"PING"), 1, (), deadline_s=deadline_s)
        except ConnectionLost as error:
            self._pool.close()
            if not error.sent or time.monotonic() >= deadline_s:
                raise ConnectionLost(str(error), sent=False, final=error.final) from error

    def _result(self, item: OutgoingPublication, reply: object) -> PublishResult:
        if isinstance(reply, TidingsError):
            return reply
        if isinstance(reply, int) and reply > 0:
            return Receipt(item.id, "")
        if reply == 0:
            return Unavailable(
                f"no Socket.IO server listens on {self._pool.address} for the key {self._key!r} and {self._nsp!r};"
                " start one with @socket.io/redis-adapter, or correct ?key= and &nsp= in the URL"
            )
        return Unavailable(f"Redis returned an error: {error_text(reply) if isinstance(reply, Exception) else reply}")

    def close(self) -> None:
        """See `Publisher.close`."""
        self._closed = True
        self._pool.close()


class AsyncSocketioPublisher(ThreadedPublisher):
    """An `AsyncPublisher` for the same URLs, in threads."""

    def __init__(self, url: str) -> None:
        super().__init__(SocketioPublisher(url), name="socketio")
