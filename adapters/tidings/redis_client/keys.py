"""The names of all keys and pub/sub channels in Redis (PROTOCOL.md section 7).

`{0}` is the bucket's hash tag: all keys of one sequence lie in one slot. A single Redis is one bucket. In a cluster
each bucket has its own tag (`buckets.tag_of`) and uses sharded pub/sub.
"""

from __future__ import annotations

from tidings.errors import BadConfig
from tidings.number_checks import shown

DEFAULT_PREFIX = "tidings:"
# How long Redis keeps the seq of a channel's last publication. A hub can set another time in this field of its rules;
# no namespace can have this name.
POINTER_TTL_S = 7 * 86_400
POINTER_TTL_FIELD = b":pointer_ttl_s"
# The most entries of the stream of notifications, in this field of the categories; no category can have this name.
STREAM_MAX_FIELD = b":stream_max"


class RedisKeys:
    """Key and pub/sub names of one bucket under one prefix, as bytes. `sharded`: the bucket is in a cluster."""

    __slots__ = (
        "base",
        "categories",
        "control",
        "doubts",
        "live",
        "meta",
        "nodes",
        "nodestats",
        "notifications",
        "notifications_dead",
        "revoked",
        "rules",
        "sharded",
    )

    def __init__(self, prefix: str = DEFAULT_PREFIX, *, tag: str = "0", sharded: bool = False) -> None:
        _check_prefix(prefix)
        self.sharded = sharded
        self.base = f"{prefix}{{{tag}}}:".encode()
        self.meta = self.base + b"meta"
        self.rules = self.base + b"rules"
        self.revoked = self.base + b"revoked"
        self.control = self.base + b"control"
        self.nodes = self.base + b"nodes"
        self.nodestats = self.base + b"nodestats"
        self.doubts = self.base + b"doubts"
        self.live = self.base + b"c:"
        # A stream that the notification service reads, what it could never store, and its categories by name.
        self.notifications = self.base + b"notifications"
        self.notifications_dead = self.base + b"notifications:dead"
        self.categories = self.base + b"categories"

    def stream(self, channel: str) -> bytes:
        """The stream with a channel's history; entry ids are `<seq>-0`."""
        return self.base + b"s:" + channel.encode()

    def pointer(self, channel: str) -> bytes:
        """The seq of a channel's last publication."""
        return self.base + b"p:" + channel.encode()

    def idempotency(self, channel: str, sender_and_id: str) -> bytes:
        """The cursor of the publication that was published with this id (`OutgoingPublication.sender_and_id`).

        No channel contains the slash: `a:b` with the id `c:1` and `a:b:c` with the id `1` have different keys.
        """
        return self.base + b"i:" + channel.encode() + b"/" + sender_and_id.encode()

    def session_record(self, name: str) -> bytes:
        """The stored state of a session that its client can resume."""
        return self.base + b"session:" + name.encode()

    def reply(self, token: str) -> bytes:
        """The list to which nodes append their replies to one command."""
        return self.base + b"r:" + token.encode()

    def pubsub(self, channel: str) -> bytes:
        """The pub/sub channel on which a channel's publications are sent."""
        return self.live + channel.encode()

    @property
    def publish(self) -> bytes:
        """The Redis command that publishes: SPUBLISH in a cluster, otherwise PUBLISH."""
        return b"SPUBLISH" if self.sharded else b"PUBLISH"


def _check_prefix(prefix: object) -> None:
    """Check a prefix, which frameworks pass as their configuration has it."""
    is_plain = isinstance(prefix, str) and prefix.isascii() and not any(sign in prefix for sign in "{} \r\n*?[]")
    if not is_plain:
        raise BadConfig(f"invalid prefix: {shown(prefix)}; use letters, digits and the characters . _ : -")
