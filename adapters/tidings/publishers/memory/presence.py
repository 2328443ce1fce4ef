"""Who is in which channel, in this process's memory: what `presence.lua` and `members.lua` are in Redis.

The caller holds a lock. `tell(channel, event, data)` publishes in the channel's presence channel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tidings.publishers.base import no_presence
from tidings.wire.channels import namespace_of
from tidings.wire.cursor import Cursor
from tidings.wire.presence import RELIST_BELOW_TENTHS, Presence, PresenceChange, PresenceUpdate, PresenceUpdateResult

Tell = Callable[[str, str, bytes], None]
_COUNTS_EVERY_S = 1.0
# The rest of a publication's data beside its list.
_AROUND_BYTES = 64


@dataclass(slots=True)
class _Member:
    nodes: set[str]
    info: bytes


@dataclass(slots=True)
class _Touched:
    joined: list[bytes] = field(default_factory=list)
    left: list[bytes] = field(default_factory=list)


class MemoryPresence:
    """All channels' members, each node's share of them, and the nodes' leases."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._namespaces: set[str] | None = None
        self._channels: dict[str, dict[str, _Member]] = {}
        self._at: dict[str, dict[tuple[str, str], None]] = {}
        self._leases: dict[str, float] = {}
        self._ended: set[str] = set()
        self._large: set[str] = set()
        self._changed: set[str] = set()
        self._told_s = -_COUNTS_EVERY_S
        self._turned_s = 0.0

    def apply(self, update: PresenceUpdate, epoch: str, *, now_s: float) -> PresenceUpdateResult:
        """One turn of a node; see `Turn`."""
        if now_s - self._turned_s > update.lease_s / 2:
            # It was not the nodes that were silent: nobody is swept before all had time for a turn.
            self._leases = {node: max(until_s, now_s + update.lease_s) for node, until_s in self._leases.items()}
        self._turned_s = now_s
        if update.epoch and (update.epoch != epoch or update.node not in self._leases):
            return PresenceUpdateResult(epoch, known=False)
        self._leases[update.node] = now_s + update.lease_s
        if not update.epoch:
            self._namespaces = set(update.namespaces)
        touched: dict[str, _Touched] = {}
        # Changes before sweeping: whoever moved here from a dead node has never left.
        for change in update.changes:
            self._apply(update.node, change, touched)
        ended = self._end(now_s)
        self._sweep(update.sweep_max, touched)
        joined = sum(len(one.joined) for one in touched.values())
        left = sum(len(one.left) for one in touched.values())
        for channel, one in touched.items():
            self._publish(channel, one, update)
        self._publish_counts(now_s)
        return PresenceUpdateResult(epoch, more=bool(self._ended), joined=joined, left=left, ended=ended)

    def read(self, channel: str, position: Cursor, *, limit: int, now_s: float) -> Presence:
        """Who is in a channel, without those whose nodes are all dead.

        Raises:
            Forbidden: its namespace has no presence.
        """
        if self._namespaces is not None and not self._namespaces & {namespace_of(channel), "*"}:
            raise no_presence(channel)
        members = self._channels.get(channel, {})
        alive = {node for node, until_s in self._leases.items() if until_s > now_s}
        infos = {user: each.info for user, each in members.items() if each.nodes & alive}
        return Presence(str(position), len(infos), infos if len(infos) <= limit else None)

    def _apply(self, node: str, change: PresenceChange, touched: dict[str, _Touched]) -> None:
        entry = change.channel, change.user
        if change.info is None:
            self._at.get(node, {}).pop(entry, None)
            self._leave(node, change.channel, change.user, touched)
            return
        self._at.setdefault(node, {})[entry] = None
        member = self._channels.setdefault(change.channel, {}).get(change.user)
        if member is None:
            self._channels[change.channel][change.user] = _Member({node}, change.info)
            item = b'{"user":"%b","info":%b}' % (change.user.encode(), change.info)
            touched.setdefault(change.channel, _Touched()).joined.append(item)
        else:
            member.nodes.add(node)
            member.info = change.info

    def _leave(self, node: str, channel: str, user: str, touched: dict[str, _Touched]) -> None:
        member = self._channels.get(channel, {}).get(user)
        if member is None:
            return
        member.nodes.discard(node)
        if not member.nodes:
            del self._channels[channel][user]
            if not self._channels[channel]:
                del self._channels[channel]
            touched.setdefault(channel, _Touched()).left.append(b'"%b"' % user.encode())

    def _end(self, now_s: float) -> int:
        """A node whose lease has ended leaves the leases at once, so that it cannot come back half swept."""
        over = [node for node, until_s in self._leases.items() if until_s <= now_s]
        for node in over:
            del self._leases[node]
            self._ended.add(node)
        return len(over)

    def _sweep(self, most: int, touched: dict[str, _Touched]) -> None:
        for node in list(self._ended):
            entries = self._at.get(node, {})
            while entries and most > 0:
                (channel, user), _ = entries.popitem()
                self._leave(node, channel, user, touched)
                most -= 1
            if not entries:
                self._at.pop(node, None)
                self._ended.discard(node)

    def _publish(self, channel: str, one: _Touched, update: PresenceUpdate) -> None:
        count = self._count(channel)
        if channel in self._large:
            if count * 10 <= update.list_max * RELIST_BELOW_TENTHS:
                self._large.discard(channel)
                self._changed.discard(channel)
                self._tell_count(channel, listed=True)
            else:
                self._changed.add(channel)
        elif count > update.list_max:
            self._large.add(channel)
            self._tell_count(channel, listed=False)
        else:
            self._publish_each(channel, "join", b"members", one.joined, update.event_max_bytes)
            self._publish_each(channel, "leave", b"users", one.left, update.event_max_bytes)

    def _publish_each(self, channel: str, event: str, what: bytes, items: list[bytes], bytes_max: int) -> None:
        part: list[bytes] = []
        size = _AROUND_BYTES
        for index, item in enumerate(items):
            part.append(item)
            size += len(item) + 1
            following = items[index + 1 : index + 2]
            if not following or size + len(following[0]) > bytes_max:
                self._tell(channel, event, b'{"%b":[%b],"count":%d}' % (what, b",".join(part), self._count(channel)))
                part, size = [], _AROUND_BYTES

    def _publish_counts(self, now_s: float) -> None:
        """Counts of large channels, at most once a second."""
        if self._changed and now_s - self._told_s >= _COUNTS_EVERY_S:
            self._told_s = now_s
            while self._changed:
                self._tell_count(self._changed.pop(), listed=False)

    def _tell_count(self, channel: str, *, listed: bool) -> None:
        self._tell(
            channel, "stats", b'{"count":%d,"listed":%b}' % (self._count(channel), b"true" if listed else b"false")
        )

    def _count(self, channel: str) -> int:
        return len(self._channels.get(channel, ()))
