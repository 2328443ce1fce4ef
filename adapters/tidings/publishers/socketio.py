"""Publishing to Socket.IO servers on Node, behind `@socket.io/redis-adapter`: channels are their rooms.

    socketio+redis://[user:password@]host[:port][/db][?key=socket.io&nsp=/]      socketio+rediss://, socketio+unix://,
    socketio+redis+sentinel://                                                   … as `address.py` has them

Source: @socket.io/redis-emitter 5.1, whose messages these are.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from urllib.parse import parse_qsl, urlencode

from tidings.backoff import delay_s
from tidings.errors import BadConfig, BadData, BadRequest, TidingsError, TimedOut, Unavailable
from tidings.publishers.base import OutgoingPublication, PublishResult
from tidings.publishers.threaded import ThreadedPublisher
from tidings.receipts import Receipt
from tidings.redis_client.connection import ConnectionLost, RedisPool, error_text
from tidings.redis_client.scripts import pack
from tidings.redis_client.url import RedisAddress
from tidings.wire.msgpack import msgpack_module
from tidings.wire.msgpack import pack as pack_value
from tidings.wire.publication import split_body

SCHEME = "socketio+"
_UID = "emitter"
_EVENT = 2
_BASE_S = 0.02
_CAP_S = 0.5
# A connection that was idle for longer is tried before a publish: it must not be in doubt because of that.
_IDLE_S = 0.5


class SocketioPublisher:
    """A `Publisher` for socketio+redis:// URLs.

    A receipt says that at least one server got the message; it has no cursor, and nobody numbers or keeps anything. No
    server: `Unavailable`. They know no ids: what is in doubt (`TimedOut`) and is published again may come twice.

    Raises:
        BadConfig: the URL is none. MissingExtra: msgpack is not installed.
    """

    def __init__(self, url: str) -> None:
        msgpack_module()
        plain, _, query = url.removeprefix(SCHEME).partition("?")
        options = dict(parse_qsl(query, keep_blank_values=True))
        self._key, self._nsp = options.pop("key", "socket.io"), options.pop("nsp", "/")
        if not self._key or not self._nsp.startswith("/"):
            raise BadConfig("the key of Socket.IO's emitters is not empty, and nsp begins with /")
        self._pool = RedisPool(RedisAddress.parse(f"{plain}?{urlencode(options)}" if options else plain))
        self._used_s = 0.0
        self._closed = False

    def publish(self, items: Sequence[OutgoingPublication], *, timeout_s: float) -> list[PublishResult]:
        """See `Publisher.publish`."""
        deadline_s = time.monotonic() + timeout_s
        messages = [self._message(item) for item in items]
        packed = [message for message in messages if isinstance(message, bytes)]
        replies = iter(self._send(packed, deadline_s))
        return [
            message if isinstance(message, TidingsError) else self._answer(item, next(replies))
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
        """A reply for each command. Without connection it is tried again until the deadline; in doubt it is not."""
        if not packed:
            return []
        attempt = 0
        while True:
            if self._closed:
                return [Unavailable("this publisher is closed")] * len(packed)
            try:
                self._try_idle(deadline_s)
                replies: list[object] = self._pool.call(b"".join(packed), len(packed), (), deadline_s=deadline_s)
            except ConnectionLost as error:
                self._pool.close()
                if error.sent:
                    return [TimedOut(f"{error}. It may or may not be published; servers know no ids")] * len(packed)
                pause_s = delay_s(attempt, base_s=_BASE_S, cap_s=_CAP_S)
                if error.final or time.monotonic() + pause_s >= deadline_s:
                    return [Unavailable(f"not published: {error}")] * len(packed)
                attempt += 1
                time.sleep(pause_s)
            else:
                self._used_s = time.monotonic()
                return replies

    def _try_idle(self, deadline_s: float) -> None:
        """A connection that died meanwhile is found by a question that does no harm."""
        if time.monotonic() - self._used_s < _IDLE_S:
            return
        try:
            self._pool.call(pack(b"PING"), 1, (), deadline_s=deadline_s)
        except ConnectionLost as error:
            self._pool.close()
            if not error.sent or time.monotonic() >= deadline_s:
                raise ConnectionLost(str(error), sent=False, final=error.final) from error

    def _answer(self, item: OutgoingPublication, reply: object) -> PublishResult:
        if isinstance(reply, TidingsError):
            return reply
        if isinstance(reply, int) and reply > 0:
            return Receipt(item.id, "")
        if reply == 0:
            return Unavailable(
                f"no Socket.IO server listens on {self._pool.address} for the key {self._key!r} and {self._nsp!r};"
                " start one with @socket.io/redis-adapter, or mend ?key= and &nsp= in the URL"
            )
        return Unavailable(f"Redis refused it: {error_text(reply) if isinstance(reply, Exception) else reply}")

    def close(self) -> None:
        """See `Publisher.close`."""
        self._closed = True
        self._pool.close()


class AsyncSocketioPublisher(ThreadedPublisher):
    """An `AsyncPublisher` for the same URLs, in threads."""

    def __init__(self, url: str) -> None:
        super().__init__(SocketioPublisher(url), name="socketio")
