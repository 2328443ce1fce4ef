"""The store of a URL."""

from __future__ import annotations

from tidings.contrib.background.bounds import JobBounds
from tidings.contrib.background.redis_store import RedisJobStore
from tidings.contrib.background.sql_store import SqlJobStore
from tidings.contrib.background.store import JobStore

_REDIS = ("redis://", "rediss://", "redis+", "rediss+", "unix://")


def open_store(url: str, bounds: JobBounds, *, prefix: str) -> JobStore:
    """The store of a URL: that of a Redis or a cluster, otherwise of a database.

    Raises:
        BadConfig: an invalid URL. MissingExtra: a driver is not installed.
    """
    if url.startswith(_REDIS):
        return RedisJobStore(url, bounds, prefix=prefix)
    return SqlJobStore(url, bounds)
