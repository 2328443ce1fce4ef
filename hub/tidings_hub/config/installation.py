"""What separates installations that share one Redis: the database, or in a cluster the buckets, and the prefix.

Nodes and their notification service have the same. The service of another installation, at the same address and with
the same secret, would store their notifications for the users of the other one.
"""

from __future__ import annotations

from typing import Final

from tidings.publishers import kind_of
from tidings.redis_client.topology import open_buckets
from tidings.redis_client.url import RedisAddress

INSTALLATION_HEADER: Final = "Tidings-Installation"
"""Nodes send theirs with every request to the notification service."""


def installation_of(broker: str, prefix: str) -> str:
    """The installation of this broker's URL, in words; empty if it is no Redis.

    Raises:
        BadConfig: the URL is invalid.
    """
    match kind_of(broker):
        case "redis":
            return f"database {RedisAddress.parse(broker).options.get('db', 0)}, prefix {prefix}"
        case "cluster":
            return f"{len(open_buckets(broker, prefix))} buckets, prefix {prefix}"
    return ""
