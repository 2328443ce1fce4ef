"""How an emitter reaches the hub: the URL's scheme chooses the publisher, and only its driver is imported."""

from __future__ import annotations

from typing import Literal

from tidings.errors import BadConfig
from tidings.publishers.base import AsyncPublisher, OutgoingPublication, Publisher, PublishResult

__all__ = [
    "AsyncPublisher",
    "OutgoingPublication",
    "PublishResult",
    "Publisher",
    "open_async_publisher",
    "open_publisher",
]

PublisherKind = Literal["redis", "cluster", "http", "memory", "queue", "socketio"]
_WAYS: dict[str, PublisherKind] = {
    "redis": "redis",
    "rediss": "redis",
    "redis+sentinel": "redis",
    "rediss+sentinel": "redis",
    "redis+cluster": "cluster",
    "rediss+cluster": "cluster",
    "unix": "redis",
    "http": "http",
    "https": "http",
    "memory": "memory",
    "amqp": "queue",
    "amqps": "queue",
    "socketio+redis": "socketio",
    "socketio+rediss": "socketio",
    "socketio+unix": "socketio",
    "socketio+redis+sentinel": "socketio",
    "socketio+rediss+sentinel": "socketio",
}


def kind_of(url: str) -> PublisherKind:
    """What kind of publisher a URL asks for.

    Raises:
        BadConfig: not a URL of a known scheme. The message does not repeat it: it may hold a password.
    """
    scheme, mark, _ = str(url).partition("://")
    way = "queue" if scheme.lower().startswith("kombu+") else _WAYS.get(scheme.lower())
    if not mark or way is None:
        known = ", ".join((*_WAYS, "kombu+<transport>"))
        raise BadConfig(f"not a URL that an emitter knows; it begins with one of {known} and ://")
    return way


def open_publisher(url: str, *, prefix: str = "tidings:", api_key: str | None = None) -> Publisher:
    """The publisher for a URL. It connects when it first publishes.

    `prefix` is the broker's key prefix (Redis only), `api_key` the hub's (HTTP only).

    Raises:
        BadConfig: an unknown scheme, a malformed URL, or an API key where none can be used.
    """
    way = kind_of(url)
    _refuse_key(way, api_key)
    if way == "http":
        from tidings.publishers.http.publisher import HttpPublisher

        return HttpPublisher(url, api_key=api_key)
    if way == "memory":
        from tidings.publishers.memory.publisher import MemoryPublisher

        return MemoryPublisher(url)
    if way == "cluster":
        from tidings.publishers.redis.cluster import ClusterPublisher

        return ClusterPublisher(url, prefix=prefix)
    if way == "queue":
        from tidings.publishers.queue.publisher import KombuPublisher

        return KombuPublisher(url)
    if way == "socketio":
        from tidings.publishers.socketio import SocketioPublisher

        return SocketioPublisher(url)
    from tidings.publishers.redis.publisher import RedisPublisher

    return RedisPublisher(url, prefix=prefix)


def open_async_publisher(url: str, *, prefix: str = "tidings:", api_key: str | None = None) -> AsyncPublisher:
    """As `open_publisher`, for one event loop."""
    way = kind_of(url)
    _refuse_key(way, api_key)
    if way == "http":
        from tidings.publishers.http.publisher import AsyncHttpPublisher

        return AsyncHttpPublisher(url, api_key=api_key)
    if way == "memory":
        from tidings.publishers.memory.publisher import AsyncMemoryPublisher

        return AsyncMemoryPublisher(url)
    if way == "cluster":
        from tidings.publishers.redis.cluster import AsyncClusterPublisher

        return AsyncClusterPublisher(url, prefix=prefix)
    if way == "queue":
        from tidings.publishers.queue.publisher import AsyncKombuPublisher

        return AsyncKombuPublisher(url)
    if way == "socketio":
        from tidings.publishers.socketio import AsyncSocketioPublisher

        return AsyncSocketioPublisher(url)
    from tidings.publishers.redis.publisher import AsyncRedisPublisher

    return AsyncRedisPublisher(url, prefix=prefix)


def _refuse_key(way: PublisherKind, api_key: str | None) -> None:
    if api_key is not None and way != "http":
        raise BadConfig("api_key belongs to http(s) URLs; a broker's password goes into its URL")
