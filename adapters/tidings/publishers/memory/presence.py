"""Presence in this process's memory: the counterpart of `presence.lua` and `members.lua`.

The caller holds a lock. `publish(channel, event, data)` publishes to the channel's presence channel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tidings.publishers.base import no_presence
from tidings.wire.channels import namespace_of
from tidings.wire.cursor import Cursor
from tidings.wire.presence import RELIST_BELOW_TENTHS, Presence, PresenceChange, PresenceUpdate, PresenceUpdateResult

Publish = Callable[[str, str, bytes], None]
_COUNTS_EVERY_S = 1.0
# Bytes of a publication's data besides the list.
_AROUND_BYTES = 64


@dataclass(slots=True)
class _Member:
    nodes: set[str]
    info: bytes


@dataclass(slots=True)
class _ChannelChanges:
    joined: list[bytes] = field(default_factory=list)
    left: list[bytes] = field(default_factory=list)


class MemoryPresence:
    """The members of all channels, the entries of each node, and the nodes' leases."""

    def __init__(self, publish: Publish) -> None:
        self._publish = publish
        self._namespaces: set[str] | None = None
        self._channels: dict[str, dict[str, _Member]] = {}
        self._entries: dict[str, dict[tuple[str, str], None]] = {}
        self._leases: dict[str, float] = {}
        self._expired: set[str] = set()
        self._unlisted: set[str] = set()
        self._changed_counts: set[str] = set()
        self._counts_published_s = -_COUNTS_EVERY_S
        self._updated_s = 0.0

    def apply(self, update: PresenceUpdate, epoch: str, *, now_s: float) -> PresenceUpdateResult:
        """Apply a node's presence update; see `PresenceUpdate`."""
        if now_s - self._updated_s > update.lease_s / 2:
            # This process was suspended, not the nodes: give each of them time for an update.
            self._leases = {node: max(until_s, now_s + update.lease_s) for node, until_s in self._leases.items()}
        self._updated_s = now_s
        if update.epoch and (update.epoch != epoch or update.node not in self._leases):
            return PresenceUpdateResult(epoch, known=False)
        self._leases[update.node] = now_s + update.lease_s
        if not update.epoch:
            self._namespaces = set(update.namespaces)
        touched: dict[str, _ChannelChanges] = {}
        # Changes before removals: a user that moved here from a dead node has not left the channel.
        for change in update.changes:
            self._apply(update.node, change, touched)
        ended = self._expire_leases(now_s)
        self._sweep(update.sweep_max, touched)
        joined = sum(len(changes.joined) for changes in touched.values())
        left = sum(len(changes.left) for changes in touched.values())
        for channel, changes in touched.items():
            self._publish_changes(channel, changes, update)
        self._publish_counts(now_s)
        return PresenceUpdateResult(epoch, more=bool(self._expired), joined=joined, left=left, ended=ended)

    def read(self, channel: str, position: Cursor, *, limit: int, now_s: float) -> Presence:
        """The members of a channel, except those that are only on dead nodes.

        Raises:
            Forbidden: its namespace has no presence.
        """
        if self._namespaces is not None and not self._namespaces & {namespace_of(channel), "*"}:
            raise no_presence(channel)
        members = self._channels.get(channel, {})
        alive = {node for node, until_s in self._leases.items() if until_s > now_s}
        infos = {user: member.info for user, member in members.items() if member.nodes & alive}
        return Presence(str(position), len(infos), infos if len(infos) <= limit else None)

    def _apply(self, node: str, change: PresenceChange, touched: dict[str, _ChannelChanges]) -> None:
        entry = change.channel, change.user
        if change.info is None:
            self._entries.get(node, {}).pop(entry, None)
            self._leave(node, change.channel, change.user, touched)
            return
        self._entries.setdefault(node, {})[entry] = None
        member = self._channels.setdefault(change.channel, {}).get(change.user)
        if member is None:
            self._channels[change.channel][change.user] = _Member({node}, change.info)
            item = b'{"user":"%b","info":%b}' % (change.user.encode(), change.info)
            touched.setdefault(change.channel, _ChannelChanges()).joined.append(item)
        else:
            member.nodes.add(node)
            member.info = change.info

    def _leave(self, node: str, channel: str, user: str, touched: dict[str, _ChannelChanges]) -> None:
        member = self._channels.get(channel, {}).get(user)
        if member is None:
            return
        member.nodes.discard(node)
        if not member.nodes:
            del self._channels[channel][user]
            if not self._channels[channel]:
                del self._channels[channel]
            touched.setdefault(channel, _ChannelChanges()).left.append(b'"%b"' % user.encode())

    def _expire_leases(self, now_s: float) -> int:
        """Move nodes whose lease has ended to `_expired`, so that a node cannot renew while its entries are removed."""
        expired = [node for node, until_s in self._leases.items() if until_s <= now_s]
        for node in expired:
            del self._leases[node]
            self._expired.add(node)
        return len(expired)

    def _sweep(self, limit: int, touched: dict[str, _ChannelChanges]) -> None:
        for node in list(self._expired):
            entries = self._entries.get(node, {})
            while entries and limit > 0:
                (channel, user), _ = entries.popitem()
                self._leave(node, channel, user, touched)
                limit -= 1
            if not entries:
                self._entries.pop(node, None)
                self._expired.discard(node)

    def _publish_changes(self, channel: str, changes: _ChannelChanges, update: PresenceUpdate) -> None:
        count = self._count(channel)
        if channel in self._unlisted:
            if count * 10 <= update.list_max * RELIST_BELOW_TENTHS:
                self._unlisted.discard(channel)
                self._changed_counts.discard(channel)
                self._publish_count(channel, listed=True)
            else:
                self._changed_counts.add(channel)
        elif count > update.list_max:
            self._unlisted.add(channel)
            self._publish_count(channel, listed=False)
        else:
            self._publish_list(channel, "join", b"members", changes.joined, update.event_max_bytes)
            self._publish_list(channel, "leave", b"users", changes.left, update.event_max_bytes)

    def _publish_list(self, channel: str, event: str, key: bytes, items: list[bytes], bytes_max: int) -> None:
        part: list[bytes] = []
        size = _AROUND_BYTES
        for index, item in enumerate(items):
            part.append(item)
            size += len(item) + 1
            following = items[index + 1 : index + 2]
            if not following or size + len(following[0]) > bytes_max:
                self._publish(channel, event, b'{"%b":[%b],"count":%d}' % (key, b",".join(part), self._count(channel)))
                part, size = [], _AROUND_BYTES

    def _publish_counts(self, now_s: float) -> None:
        """Publish the counts of channels with too many members for a list, at most once a second."""
        if self._changed_counts and now_s - self._counts_published_s >= _COUNTS_EVERY_S:
            self._counts_published_s = now_s
            while self._changed_counts:
                self._publish_count(self._changed_counts.pop(), listed=False)

    def _publish_count(self, channel: str, *, listed: bool) -> None:
        self._publish(
            channel, "stats", b'{"count":%d,"listed":%b}' % (self._count(channel), b"true" if listed else b"false")
        )

    def _count(self, channel: str) -> int:
        return len(self._channels.get(channel, ()))
