"""Publishers: how an emitter reaches the hub. The URL's scheme selects one, and only its driver is imported.

base: the protocols `Publisher` and `NodeQueries`. redis, http, memory, queue: one package per transport.
socketio: Socket.IO servers on Node. retry_state: retries of one batch. threaded: blocking publishers for asyncio.
"""

from __future__ import annotations

from typing import Literal

from tidings.drivers import importing
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
_KINDS: dict[str, PublisherKind] = {
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
    """The kind of publisher for a URL.

    Raises:
        BadConfig: the scheme is unknown. The message does not repeat the URL, which may hold a password.
    """
    scheme, mark, _ = str(url).partition("://")
    kind = "queue" if scheme.lower().startswith("kombu+") else _KINDS.get(scheme.lower())
    if not mark or kind is None:
        schemes = ", ".join((*_KINDS, "kombu+<transport>"))
        raise BadConfig(f"not a URL that an emitter supports; its scheme is one of {schemes}, followed by ://")
    return kind


@importing()
def open_publisher(url: str, *, prefix: str = "tidings:", api_key: str | None = None) -> Publisher:
    """The publisher for a URL. It connects at the first publish.

    `prefix`: the broker's key prefix (Redis only). `api_key`: one of the hub's API keys (HTTP only).

    Raises:
        BadConfig: an unknown scheme, a malformed URL, or an API key for a URL that is not http(s).
    """
    kind = kind_of(url)
    _reject_api_key(kind, api_key)
    if kind == "http":
        from tidings.publishers.http.publisher import HttpPublisher

        return HttpPublisher(url, api_key=api_key)
    if kind == "memory":
        from tidings.publishers.memory.publisher import MemoryPublisher

        return MemoryPublisher(url)
    if kind == "cluster":
        from tidings.publishers.redis.cluster import ClusterPublisher

        return ClusterPublisher(url, prefix=prefix)
    if kind == "queue":
        from tidings.publishers.queue.publisher import KombuPublisher

        return KombuPublisher(url)
    if kind == "socketio":
        from tidings.publishers.socketio import SocketioPublisher

        return SocketioPublisher(url)
    from tidings.publishers.redis.publisher import RedisPublisher

    return RedisPublisher(url, prefix=prefix)


@importing()
def open_async_publisher(url: str, *, prefix: str = "tidings:", api_key: str | None = None) -> AsyncPublisher:
    """As `open_publisher`, for one event loop."""
    kind = kind_of(url)
    _reject_api_key(kind, api_key)
    if kind == "http":
        from tidings.publishers.http.publisher import AsyncHttpPublisher

        return AsyncHttpPublisher(url, api_key=api_key)
    if kind == "memory":
        from tidings.publishers.memory.publisher import AsyncMemoryPublisher

        return AsyncMemoryPublisher(url)
    if kind == "cluster":
        from tidings.publishers.redis.cluster import AsyncClusterPublisher

        return AsyncClusterPublisher(url, prefix=prefix)
    if kind == "queue":
        from tidings.publishers.queue.publisher import AsyncKombuPublisher

        return AsyncKombuPublisher(url)
    if kind == "socketio":
        from tidings.publishers.socketio import AsyncSocketioPublisher

        return AsyncSocketioPublisher(url)
    from tidings.publishers.redis.publisher import AsyncRedisPublisher

    return AsyncRedisPublisher(url, prefix=prefix)


def _reject_api_key(kind: PublisherKind, api_key: str | None) -> None:
    if api_key is not None and kind != "http":
        raise BadConfig("api_key is only for http(s) URLs; put a broker's password into its URL")
