"""The names of everything that tidings keeps in Redis (PROTOCOL.md section 7).

`{0}` is the bucket's hash tag: all keys of one sequence lie in one slot. One Redis is one bucket; a
cluster's buckets have tags of their own (`buckets.tag_of`), and sharded pub/sub.
"""

from __future__ import annotations

from tidings.errors import BadConfig

DEFAULT_PREFIX = "tidings:"
# How long a channel's end is known, unless the hub's rules say otherwise in this field; no namespace is called so.
POINTER_TTL_S = 7 * 86_400
POINTER_TTL_FIELD = b":pointer_ttl_s"


class RedisKeys:
    """Key and pub/sub names of one bucket under one prefix, as bytes. `sharded`: it is in a cluster."""

    __slots__ = ("base", "control", "doubts", "live", "meta", "nodes", "nodestats", "revoked", "rules", "sharded")

    def __init__(self, prefix: str = DEFAULT_PREFIX, *, tag: str = "0", sharded: bool = False) -> None:
        if not prefix.isascii() or any(sign in prefix for sign in "{} \r\n*?[]"):
            raise BadConfig(f"not a prefix: {prefix!r}; use letters, digits and the signs . _ : -")
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

    def stream(self, channel: str) -> bytes:
        """The stream with a channel's history; entry ids are `<seq>-0`."""
        return self.base + b"s:" + channel.encode()

    def pointer(self, channel: str) -> bytes:
        """The seq of a channel's last publication."""
        return self.base + b"p:" + channel.encode()

    def idempotency(self, channel: str, id: str) -> bytes:
        """The cursor that a publication's id got."""
        return self.base + b"i:" + channel.encode() + b":" + id.encode()

    def session_record(self, name: str) -> bytes:
        """The stored state of a session that its client can resume."""
        return self.base + b"session:" + name.encode()

    def reply(self, token: str) -> bytes:
        """The list in which the nodes' answers to one order gather."""
        return self.base + b"r:" + token.encode()

    def pubsub(self, channel: str) -> bytes:
        """Where a channel's publications are sent live."""
        return self.live + channel.encode()

    @property
    def publish(self) -> bytes:
        """The command that sends to a pub/sub name."""
        return b"SPUBLISH" if self.sharded else b"PUBLISH"
