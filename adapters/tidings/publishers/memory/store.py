"""The sequence in this process's memory: the counterpart of Redis and publish.lua.

All users of one `memory://` URL in a process share one store. An emitter's publications reach a hub in the same
process, and tests can read them. Numbers, retention and idempotency are as in Redis (PROTOCOL.md section 7).
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from tidings.errors import BadConfig, BadPacket, TidingsError, Unavailable, UnknownNamespace
from tidings.publishers.base import OutgoingPublication, PublishResult
from tidings.publishers.memory.commands import MemoryCommands
from tidings.publishers.memory.horizon import Horizon
from tidings.publishers.memory.notifications import MemoryNotifications
from tidings.publishers.memory.presence import MemoryPresence
from tidings.receipts import Receipt
from tidings.redis_client.keys import POINTER_TTL_S
from tidings.wire.channels import namespace_of
from tidings.wire.cursor import Cursor
from tidings.wire.presence import Presence, PresenceUpdate, PresenceUpdateResult, presence_channel
from tidings.wire.publication import Publication, decode, encode_body

# History size and TTL of every namespace until a hub writes rules, so that tests can read publications.
_DEFAULT_RULE = (1_000, 86_400)
_SWEEP_EVERY = 1_024
_MESSAGE_MAX_BYTES = 64 * 1024 * 1024


# The seq of a channel's last publication, and stored publications.
ChannelState = tuple[int | None, list[Publication]]


@dataclass(slots=True)
class _Channel:
    pointer: int | None = None
    pointer_until_s: float = 0.0
    history: deque[Publication] = field(default_factory=deque)
    history_until_s: float = 0.0


class MemoryStore:
    """One sequence. Threads may share it. Listeners are called in order of seq."""

    def __init__(self, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self.epoch = secrets.token_urlsafe(9)
        self.seq = 0
        self.lock = threading.Lock()
        self._now_s = now_s
        self._rules: dict[str, tuple[int, int]] | None = None
        self._pointer_ttl_s = POINTER_TTL_S
        self._channels: dict[str, _Channel] = {}
        self._horizon = Horizon()
        self._ids: dict[tuple[str, str], tuple[float, str]] = {}
        # Ids in the order in which they expire, one queue per lifetime: expiry costs O(1) per publication.
        self._expiring_ids: dict[int, deque[tuple[str, str]]] = {}
        self._sweep_at = _SWEEP_EVERY
        self.commands = MemoryCommands()
        self._listeners: list[Callable[[Publication], None]] = []
        self._presence = MemoryPresence(self._publish_presence)
        self.notifications = MemoryNotifications(now_s=now_s)

    @property
    def channels_stored(self) -> int:
        """How many channels it stores: those with a publication that has not expired."""
        return len(self._channels)

    def write_rules(self, rules: Mapping[str, tuple[int, int]], *, pointer_ttl_s: int = POINTER_TTL_S) -> None:
        """Set the rules: namespace (or `*`) to (history, history_ttl_s), and how long a channel's pointer is stored."""
        with self.lock:
            self._rules = dict(rules)
            if pointer_ttl_s < self._pointer_ttl_s:
                self._horizon.clear()
            self._pointer_ttl_s = pointer_ttl_s

    def add_listener(self, listener: Callable[[Publication], None]) -> None:
        """Call `listener` with every publication from now on. It must be quick and must not call the store."""
        with self.lock:
            self._listeners.append(listener)

    def remove_listener(self, listener: Callable[[Publication], None]) -> None:
        """Stop calling `listener`. Idempotent."""
        with self.lock:
            if listener in self._listeners:
                self._listeners.remove(listener)

    def publish(self, item: OutgoingPublication) -> PublishResult:
        """Number, store and deliver one item. For a repeated id, return the first receipt as a duplicate."""
        with self.lock:
            try:
                return self._publish(item, self._now_s())
            except TidingsError as error:
                return error

    def _publish(self, item: OutgoingPublication, now_s: float) -> Receipt:
        history, ttl_s = self._rule(item.channel)
        key = (item.channel, item.sender_and_id)
        until_s, first = self._ids.get(key, (0.0, ""))
        if item.idempotency_s > 0 and until_s > now_s:
            return Receipt(item.id, first, duplicate=True)
        publication = self._numbered(item.channel, item.body, now_s)
        self._store(publication, history, ttl_s, now_s)
        if item.idempotency_s > 0:
            self._ids[key] = (now_s + item.idempotency_s, publication.cursor)
            self._expiring_ids.setdefault(item.idempotency_s, deque()).append(key)
        self._expire_ids(now_s)
        if self.seq >= self._sweep_at:
            self._sweep(now_s)
        for listener in self._listeners:
            listener(publication)
        return Receipt(item.id, publication.cursor)

    def _numbered(self, channel: str, body: bytes, now_s: float) -> Publication:
        pointer = self._pointer(channel, now_s)
        prev = self._horizon_seq(now_s) if pointer is None else pointer
        head = b"t1 %d %d %b " % (self.seq + 1, prev, self.epoch.encode())
        try:
            publication = decode(channel, head + body, max_bytes=_MESSAGE_MAX_BYTES)
        except BadPacket as error:
            raise Unavailable(f"invalid body, not written by `encode_body`: {error}") from error
        self.seq += 1
        return publication

    def update_presence(self, update: PresenceUpdate) -> PresenceUpdateResult:
        """Apply a node's presence changes. Joins and leaves are published to presence channels."""
        with self.lock:
            return self._presence.apply(update, self.epoch, now_s=self._now_s())

    def members(self, channel: str, *, limit: int) -> Presence:
        """The users in a channel.

        Raises:
            Forbidden: its namespace has no presence.
        """
        with self.lock:
            return self._presence.read(channel, self.position(), limit=limit, now_s=self._now_s())

    def _publish_presence(self, channel: str, event: str, data_json: bytes) -> None:
        now_s = self._now_s()
        body = encode_body(event, data_json, id=f"presence-{self.seq + 1}", at_ms=time.time_ns() // 1_000_000)
        publication = self._numbered(presence_channel(channel), body, now_s)
        self._store(publication, 0, 0, now_s)
        for listener in self._listeners:
            listener(publication)

    def _rule(self, channel: str) -> tuple[int, int]:
        if self._rules is None:
            return _DEFAULT_RULE
        name = namespace_of(channel)
        rule = self._rules.get(name) or self._rules.get("*")
        if rule is None:
            raise UnknownNamespace(
                f"no rule for the namespace {name!r}; add it to tidings.toml and reload the hub (SIGHUP)"
            )
        return rule

    def _store(self, publication: Publication, history: int, ttl_s: int, now_s: float) -> None:
        channel = self._channels.setdefault(publication.channel, _Channel())
        channel.pointer, channel.pointer_until_s = publication.seq, now_s + self._pointer_ttl_s
        if channel.history_until_s <= now_s or not history:
            channel.history.clear()
        if history:
            channel.history.append(publication)
            channel.history_until_s = now_s + ttl_s
            while len(channel.history) > history:
                channel.history.popleft()

    def _pointer(self, name: str, now_s: float) -> int | None:
        channel = self._channels.get(name)
        return channel.pointer if channel is not None and channel.pointer_until_s > now_s else None

    def read_channels(self, names: Sequence[str], after: int | None, *, limit: int) -> dict[str, ChannelState]:
        """Pointer and stored publications of each channel. The caller holds `lock`.

        A missing pointer is None: nothing was published in the channel after `horizon`. `after` None reads no
        publications.
        """
        now_s = self._now_s()
        states: dict[str, ChannelState] = {}
        for name in names:
            stored = [] if after is None else [item for item in self.stored(name) if item.seq > after][: limit + 1]
            states[name] = (self._pointer(name, now_s), stored)
        self.keep_pointers(names)
        return states

    def keep_pointers(self, names: Sequence[str]) -> None:
        """Prolong the pointers of channels that are used. The caller holds `lock`."""
        now_s = self._now_s()
        for name in names:
            if self._pointer(name, now_s) is not None:
                self._channels[name].pointer_until_s = now_s + self._pointer_ttl_s

    def horizon(self) -> int:
        """The seq after which channels without a pointer have no publication. The caller holds `lock`."""
        return self._horizon_seq(self._now_s())

    def _horizon_seq(self, now_s: float) -> int:
        return self._horizon.seq(self.seq, life_s=self._pointer_ttl_s, now_s=now_s)

    def stored(self, name: str) -> list[Publication]:
        """The stored publications of a channel, oldest first."""
        channel = self._channels.get(name)
        return list(channel.history) if channel is not None and channel.history_until_s > self._now_s() else []

    def history(
        self, channel: str, *, since: Cursor | None, limit: int, newest: bool
    ) -> tuple[Cursor, list[Publication]]:
        """The position, and at most `limit` stored publications after `since`: the first or the last ones.

        Raises:
            UnknownNamespace: the namespace has no rule.
        """
        with self.lock:
            self._rule(channel)
            position, stored = self.position(), self.stored(channel)
        if since is not None and since.epoch == position.epoch:
            stored = [item for item in stored if item.seq > since.seq]
        return position, stored[-limit:] if newest else stored[:limit]

    def position(self) -> Cursor:
        """The end of the sequence."""
        return Cursor(self.epoch, self.seq)

    def _sweep(self, now_s: float) -> None:
        """Delete expired channels. Called every so many publications, so that memory does not grow for ever."""
        for name, channel in list(self._channels.items()):
            if channel.history_until_s <= now_s:
                channel.history.clear()
                if channel.pointer_until_s <= now_s:
                    del self._channels[name]
        self._sweep_at = self.seq + max(_SWEEP_EVERY, len(self._channels))

    def _expire_ids(self, now_s: float) -> None:
        for lifetime_s, keys in list(self._expiring_ids.items()):
            while keys and self._ids.get(keys[0], (0.0, ""))[0] <= now_s:
                self._ids.pop(keys.popleft(), None)
            if not keys:
                del self._expiring_ids[lifetime_s]


_stores: WeakValueDictionary[str, MemoryStore] = WeakValueDictionary()
_stores_lock = threading.Lock()


def open_store(url: str) -> MemoryStore:
    """The store of a `memory://` or `memory://<name>` URL. It exists as long as something refers to it.

    Raises:
        BadConfig: the URL has options.
    """
    if "?" in url:
        raise BadConfig("a memory:// URL has no options; its form is memory://<name>")
    with _stores_lock:
        store = _stores.get(url)
        if store is None:
            store = _stores[url] = MemoryStore()
        return store
