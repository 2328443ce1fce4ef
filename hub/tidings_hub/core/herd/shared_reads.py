"""Which clients' recoveries share one read of the broker.

Each client names its channels, and per channel the seq after which it has missed publications. A read after the least
of these seqs contains what each of the clients missed. It is correct for a client only if it begins after the client's
subscription is active, so only recoveries that wait at that moment are merged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class SharedRead:
    """One read. `readers`: the positions of the clients in the list that was merged, in its order."""

    channels: dict[str, None] = field(default_factory=dict)
    after: dict[str, int] = field(default_factory=dict)
    readers: list[int] = field(default_factory=list)


def merge_reads(reads: Sequence[tuple[Sequence[str], Mapping[str, int]]], *, channels_max: int) -> list[SharedRead]:
    """Merge reads, each of them the channels of one client and their seqs, into as few as the bounds allow.

    All channels of a client are in the same read, because the client needs them as of one moment. A client with more
    than `channels_max` channels has a read of its own.
    """
    merged: list[SharedRead] = []
    for reader, (channels, after) in enumerate(reads):
        read = merged[-1] if merged else None
        if read is None or _size_with(read, channels) > channels_max:
            read = SharedRead()
            merged.append(read)
        read.readers.append(reader)
        read.channels.update(dict.fromkeys(channels))
        for channel, seq in after.items():
            read.after[channel] = min(seq, read.after.get(channel, seq))
    return merged


def _size_with(read: SharedRead, channels: Sequence[str]) -> int:
    return len(read.channels) + sum(1 for channel in channels if channel not in read.channels)
