"""Receives what other programs publish on a Redis, by pattern, on one link."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from tidings.errors import Unavailable
from tidings.redis_client.connection import reason_of
from tidings.redis_client.url import RedisAddress, redis_module
from tidings_hub.brokers.pubsub_link import LinkDown, PubSubLink

_CONNECT_S = 2.0
_QUIET = b"quiet"


class _PatternLink(PubSubLink):
    _subscribe = b"PSUBSCRIBE"


class PatternSubscriber:
    """One link to one Redis, from `open` to `close`. One greenlet may `read`; any may `interrupt`.

    PUBSUB NUMSUB does not count subscriptions by pattern, so other emitters do not wait for replies of this node. On a
    Redis Cluster any node will do, since it receives what is published on all nodes. A message that is not complete
    after `link_max_bytes` breaks the link.

    Raises:
        BadConfig: the URL is invalid.
    """

    def __init__(self, url: str, *, link_max_bytes: int) -> None:
        self._address = RedisAddress.parse(url)
        self._link_max_bytes = link_max_bytes
        self._link: _PatternLink | None = None
        self._early: list[Any] = []
        self._is_ping_sent = False

    def __str__(self) -> str:
        return str(self._address)

    def open(self, patterns: Sequence[bytes]) -> None:
        """Connect; returns when Redis has confirmed all patterns.

        Raises:
            Unavailable: Redis is unreachable or did not confirm.
        """
        self._is_ping_sent = False
        try:
            self._link = _PatternLink(self._address, timeout_s=_CONNECT_S, max_bytes=self._link_max_bytes)
            self._link.subscribe(patterns)
            self._early = _wait_until_confirmed(self._link, patterns)
        except (LinkDown, OSError, redis_module().RedisError) as error:
            self.close()
            raise Unavailable(f"{self._address} cannot be listened to ({reason_of(error)})") from error

    def read(self, timeout_s: float) -> list[tuple[bytes, bytes]]:
        """Channel and message of everything received, in order; empty if nothing arrived within `timeout_s`.

        Raises:
            Unavailable: the link broke, or a ping was not answered within `timeout_s`.
        """
        if self._link is None:
            raise Unavailable("the link is closed")
        early, self._early = self._early, []
        try:
            items = early or self._link.read(timeout_s)
            self._check_alive(self._link, has_items=bool(items))
        except LinkDown as error:
            raise Unavailable(f"the link to {self._address} broke ({error})") from error
        return [(bytes(item[2]), bytes(item[3])) for item in items if _is_message(item)]

    def _check_alive(self, link: PubSubLink, *, has_items: bool) -> None:
        if has_items:
            self._is_ping_sent = False
        elif self._is_ping_sent:
            raise LinkDown("Redis did not answer a ping")
        else:
            self._is_ping_sent = True
            link.ping(_QUIET)

    def interrupt(self) -> None:
        """Make a waiting `read` raise Unavailable."""
        link = self._link
        if link is not None:
            link.interrupt()

    def close(self) -> None:
        """Close the link. Idempotent."""
        link, self._link = self._link, None
        if link is not None:
            link.close()


def _is_message(item: Any) -> bool:
    return isinstance(item, list) and len(item) == 4 and item[0] == b"pmessage"


def _wait_until_confirmed(link: PubSubLink, patterns: Sequence[bytes]) -> list[Any]:
    """Wait until all patterns are confirmed; return the items that arrived meanwhile."""
    missing, items, end_s = set(patterns), list[Any](), time.monotonic() + _CONNECT_S
    while missing:
        if time.monotonic() > end_s:
            raise LinkDown("Redis did not confirm a subscription")
        for item in link.read(_CONNECT_S):
            if isinstance(item, Exception):
                raise LinkDown(f"Redis rejected the subscription: {str(item)[:200]}")
            if isinstance(item, list) and len(item) == 3 and item[0] == b"psubscribe":
                missing.discard(item[1])
            else:
                items.append(item)
    return items
