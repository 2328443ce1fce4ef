"""Who of this node's users is in which channel, and what the broker has yet to be told of it.

A user is in a channel from the first connection that subscribes until `grace_s` after the last one has left: a
page change, or a move to another node, is no leave. The broker decides over all nodes (`tidings.wire.presence.Turn`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from tidings.wire.channels import OWN_PREFIX
from tidings.wire.presence import PresenceChange, presence_channel, presence_of
from tidings.wire.publication import Publication
from tidings_hub.core.frame import Frame


@dataclass(slots=True)
class _LocalMember:
    connections: int
    info: bytes
    # When the stay ends; None while a connection is there.
    until_s: float | None = None


class LocalPresence:
    """The stays of this node's users, and which of them changed since the broker was told.

    What is told is always the state at that moment, so telling it twice does no harm.
    """

    def __init__(self, *, grace_s: float) -> None:
        self._grace_s = grace_s
        self._stays: dict[tuple[str, str], _LocalMember] = {}
        self._changed: dict[tuple[str, str], None] = {}
        # Everyone's grace is equally long: in order of their end.
        self._ending: deque[tuple[float, tuple[str, str]]] = deque()

    def __len__(self) -> int:
        return len(self._stays)

    @property
    def has_changes(self) -> bool:
        """Whether there is something to tell."""
        return bool(self._changed)

    def join(self, channels: Iterable[str], user: str, info: bytes) -> None:
        """One more connection of the user is in these channels; the last one's `info` counts."""
        for channel in channels:
            stay = self._stays.get((channel, user))
            if stay is None:
                self._stays[channel, user] = _LocalMember(1, info)
                self._changed[channel, user] = None
            else:
                stay.connections += 1
                stay.until_s = None
        self.update_info(channels, user, info)

    def update_info(self, channels: Iterable[str], user: str, info: bytes) -> None:
        """The user has this `info` now."""
        for channel in channels:
            stay = self._stays.get((channel, user))
            if stay is not None and stay.info != info:
                stay.info = info
                self._changed[channel, user] = None

    def leave(self, channels: Iterable[str], user: str, *, now_s: float) -> None:
        """One connection less."""
        for channel in channels:
            stay = self._stays.get((channel, user))
            if stay is None or stay.connections == 0:
                continue
            stay.connections -= 1
            if stay.connections == 0:
                stay.until_s = now_s + self._grace_s
                self._ending.append((stay.until_s, (channel, user)))

    def pop_changes(self, now_s: float) -> list[PresenceChange]:
        """What the broker is to be told now; it counts as told."""
        while self._ending and self._ending[0][0] <= now_s:
            until_s, key = self._ending.popleft()
            stay = self._stays.get(key)
            # Whoever came back, and perhaps left again, has another end.
            if stay is not None and stay.until_s == until_s:
                del self._stays[key]
                self._changed[key] = None
        changed, self._changed = self._changed, {}
        return [self._change(key) for key in changed]

    def _change(self, key: tuple[str, str]) -> PresenceChange:
        stay = self._stays.get(key)
        return PresenceChange(*key, None if stay is None else stay.info)

    def restore_changes(self, changes: list[PresenceChange]) -> None:
        """These could not be told."""
        self._changed.update(((change.channel, change.user), None) for change in changes)

    def mark_all_changed(self) -> None:
        """The broker knows nothing (any more): everything is to be told, and nothing else."""
        self._changed = dict.fromkeys(self._stays)

    def next_expiry_s(self) -> float | None:
        """When `take` will have something without anybody doing anything; None: never."""
        return self._ending[0][0] if self._ending else None


def with_presence_channels(channels: Iterable[str]) -> Iterable[str]:
    """The channels, and beside each the one with its joins and leaves; none twice."""
    return dict.fromkeys(each for name in channels for each in (name, presence_channel(name)))


def split_answers(answers: Mapping[str, Mapping[str, object]]) -> dict[str, dict[str, object]]:
    """`{"channels": …}` with what is answered per channel, and `"presence"` beside it where joins and leaves are."""
    found: dict[str, dict[str, object]] = {"channels": {}}
    for name, answer in answers.items():
        channel = presence_of(name)
        if channel is None:
            found["channels"][name] = answer
        else:
            found.setdefault("presence", {})[channel] = answer
    return found


def presence_frame(publication: Publication) -> Frame:
    """What came in a presence channel, as clients get it: the event `tidings:join` in the channel itself."""
    return _PresenceFrame(publication)


class _PresenceFrame(Frame):
    """Looked up by the presence channel that it came in, written with the name of the channel it is about."""

    __slots__ = ()

    def __init__(self, publication: Publication) -> None:
        shown = replace(
            publication,
            channel=presence_of(publication.channel) or publication.channel,
            event_bytes=publication.event_bytes + len(OWN_PREFIX),
            fragment=b'"' + OWN_PREFIX.encode() + publication.fragment[1:],
        )
        super().__init__(shown)
        # Both forms are built now, while the publication is the one that is shown.
        self._sse = self.sse
        self.publication = publication
