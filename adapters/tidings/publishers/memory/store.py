"""The sequence in this process's memory: what Redis and the publish script are elsewhere.

All who name the same `memory://` URL in one process share one store: an emitter's publications reach a
hub of the same process, and tests can read what was published. Numbers, retention and idempotency are
those of Redis (DESIGN 3).
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from tidings.errors import BadPacket, TidingsError, Unavailable, UnknownNamespace
from tidings.publishers.base import OutgoingPublication, PublishResult
from tidings.publishers.memory.commands import MemoryCommands
from tidings.publishers.memory.presence import MemoryPresence
from tidings.receipts import Receipt
from tidings.redis_client.keys import POINTER_TTL_S
from tidings.wire.channels import namespace_of
from tidings.wire.cursor import Cursor
from tidings.wire.presence import Presence, PresenceUpdate, PresenceUpdateResult, presence_channel
from tidings.wire.publication import Publication, decode, encode_body

# Without a hub that writes rules, any namespace keeps this much: what a test wants to look at.
_DEFAULT_RULE = (1_000, 86_400)
_SWEEP_EVERY = 1_024
_MESSAGE_MAX_BYTES = 64 * 1024 * 1024


# A channel's pointer and what is kept of it.
ChannelState = tuple[int | None, list[Publication]]


@dataclass(slots=True)
class _Channel:
    pointer: int | None = None
    pointer_until_s: float = 0.0
    kept: deque[Publication] = field(default_factory=deque)
    kept_until_s: float = 0.0


class MemoryStore:
    """One sequence. Safe to share between threads; `listen` is told in order of seq."""

    def __init__(self, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self.epoch = secrets.token_urlsafe(9)
        self.seq = 0
        self.lock = threading.Lock()
        self._now_s = now_s
        self._rules: dict[str, tuple[int, int]] | None = None
        self._pointer_ttl_s = POINTER_TTL_S
        self._channels: dict[str, _Channel] = {}
        self._ids: dict[tuple[str, str], tuple[float, str]] = {}
        # Ids in order of their end, one queue per lifetime: forgetting costs O(1) per publication.
        self._ends: dict[int, deque[tuple[str, str]]] = {}
        self._sweep_at = _SWEEP_EVERY
        self.commands = MemoryCommands()
        self._listeners: list[Callable[[Publication], None]] = []
        self._members = MemoryPresence(self._tell)

    def write_rules(self, rules: Mapping[str, tuple[int, int]], *, pointer_ttl_s: int = POINTER_TTL_S) -> None:
        """Namespace (or `*`) to (history, history_ttl_s), and how long a channel's end is known after its last use."""
        with self.lock:
            self._rules = dict(rules)
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
        """Number, keep and hand out one item, or say what its id got the first time."""
        with self.lock:
            try:
                return self._publish(item, self._now_s())
            except TidingsError as error:
                return error

    def _publish(self, item: OutgoingPublication, now_s: float) -> Receipt:
        history, ttl_s = self._rule(item.channel)
        key = (item.channel, item.id)
        until_s, first = self._ids.get(key, (0.0, ""))
        if item.idempotency_s > 0 and until_s > now_s:
            return Receipt(item.id, first, duplicate=True)
        publication = self._numbered(item.channel, item.body, now_s)
        self._keep(publication, history, ttl_s, now_s)
        if item.idempotency_s > 0:
            self._ids[key] = (now_s + item.idempotency_s, publication.cursor)
            self._ends.setdefault(item.idempotency_s, deque()).append(key)
        self._forget_ids(now_s)
        if self.seq >= self._sweep_at:
            self._sweep(now_s)
        for listener in self._listeners:
            listener(publication)
        return Receipt(item.id, publication.cursor)

    def _numbered(self, channel: str, body: bytes, now_s: float) -> Publication:
        pointer = self._pointer(channel, now_s)
        prev = self.seq if pointer is None else pointer
        head = b"t1 %d %d %b " % (self.seq + 1, prev, self.epoch.encode())
        try:
            publication = decode(channel, head + body, max_bytes=_MESSAGE_MAX_BYTES)
        except BadPacket as error:
            raise Unavailable(f"a body that `encode_body` did not write: {error}") from error
        self.seq += 1
        return publication

    def update_presence(self, update: PresenceUpdate) -> PresenceUpdateResult:
        """A node's changes of who is where; what comes of them is published in presence channels."""
        with self.lock:
            return self._members.apply(update, self.epoch, now_s=self._now_s())

    def members(self, channel: str, *, limit: int) -> Presence:
        """Who is in a channel.

        Raises:
            Forbidden: its namespace has no presence.
        """
        with self.lock:
            return self._members.read(channel, self.position(), limit=limit, now_s=self._now_s())

    def _tell(self, channel: str, event: str, data_json: bytes) -> None:
        now_s = self._now_s()
        body = encode_body(event, data_json, id=f"presence-{self.seq + 1}", at_ms=time.time_ns() // 1_000_000)
        publication = self._numbered(presence_channel(channel), body, now_s)
        self._keep(publication, 0, 0, now_s)
        for listener in self._listeners:
            listener(publication)

    def _rule(self, channel: str) -> tuple[int, int]:
        if self._rules is None:
            return _DEFAULT_RULE
        name = namespace_of(channel)
        rule = self._rules.get(name) or self._rules.get("*")
        if rule is None:
            raise UnknownNamespace(f"no rule for the namespace {name!r}; add it to tidings.toml and restart the hub")
        return rule

    def _keep(self, publication: Publication, history: int, ttl_s: int, now_s: float) -> None:
        channel = self._channels.setdefault(publication.channel, _Channel())
        channel.pointer, channel.pointer_until_s = publication.seq, now_s + self._pointer_ttl_s
        if channel.kept_until_s <= now_s or not history:
            channel.kept.clear()
        if history:
            channel.kept.append(publication)
            channel.kept_until_s = now_s + ttl_s
            while len(channel.kept) > history:
                channel.kept.popleft()

    def _pointer(self, name: str, now_s: float) -> int | None:
        channel = self._channels.get(name)
        return channel.pointer if channel is not None and channel.pointer_until_s > now_s else None

    def read_channels(self, names: Sequence[str], after: int | None, *, limit: int) -> dict[str, ChannelState]:
        """Pointer and kept publications of each channel. Call it with `lock` held.

        A missing pointer is set to the current seq and reported as None. `after` None reads no publications.
        """
        now_s = self._now_s()
        found: dict[str, ChannelState] = {}
        for name in names:
            pointer = self._pointer(name, now_s)
            channel = self._channels.setdefault(name, _Channel())
            if pointer is None:
                channel.pointer = self.seq
            channel.pointer_until_s = now_s + self._pointer_ttl_s
            kept = [] if after is None else [one for one in self.stored(name) if one.seq > after][: limit + 1]
            found[name] = (pointer, kept)
        return found

    def stored(self, name: str) -> list[Publication]:
        """What is kept of a channel, oldest first."""
        channel = self._channels.get(name)
        return list(channel.kept) if channel is not None and channel.kept_until_s > self._now_s() else []

    def history(
        self, channel: str, *, since: Cursor | None, limit: int, newest: bool
    ) -> tuple[Cursor, list[Publication]]:
        """The position and at most `limit` kept publications after `since`: the first, or the last ones.

        Raises:
            UnknownNamespace: no rule for it.
        """
        with self.lock:
            self._rule(channel)
            position, kept = self.position(), self.stored(channel)
        if since is not None and since.epoch == position.epoch:
            kept = [one for one in kept if one.seq > since.seq]
        return position, kept[-limit:] if newest else kept[:limit]

    def position(self) -> Cursor:
        """The end of the sequence."""
        return Cursor(self.epoch, self.seq)

    def _sweep(self, now_s: float) -> None:
        """Forget channels that have ended; called once in a while, so that nothing grows for ever."""
        for name, channel in list(self._channels.items()):
            if channel.kept_until_s <= now_s:
                channel.kept.clear()
                if channel.pointer_until_s <= now_s:
                    del self._channels[name]
        self._sweep_at = self.seq + max(_SWEEP_EVERY, len(self._channels))

    def _forget_ids(self, now_s: float) -> None:
        for lifetime_s, keys in list(self._ends.items()):
            while keys and self._ids.get(keys[0], (0.0, ""))[0] <= now_s:
                self._ids.pop(keys.popleft(), None)
            if not keys:
                del self._ends[lifetime_s]


_stores: WeakValueDictionary[str, MemoryStore] = WeakValueDictionary()
_stores_lock = threading.Lock()


def open_store(url: str) -> MemoryStore:
    """The store of a `memory://` or `memory://<name>` URL; it lives as long as somebody holds it."""
    with _stores_lock:
        store = _stores.get(url)
        if store is None:
            store = _stores[url] = MemoryStore()
        return store
