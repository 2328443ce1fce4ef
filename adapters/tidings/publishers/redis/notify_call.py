"""The EVALSHA of notify.lua for many notifications. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from tidings.publishers.base import OutgoingNotification
from tidings.redis_client.keys import RedisKeys
from tidings.redis_client.scripts import Script, load_script, pack_call


def notify_script() -> Script:
    """The script that appends notifications to the stream of the notification service."""
    return load_script("tidings.redis_client", "notify.lua")


def pack_notify(keys: RedisKeys, items: Sequence[OutgoingNotification], _candidate: str = "") -> bytes:
    """The EVALSHA that appends the items."""
    pairs = ((item.notification.category.encode(), item.body) for item in items)
    return pack_call(notify_script(), (keys.notifications, keys.categories), [*chain.from_iterable(pairs)])
