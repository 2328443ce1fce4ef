"""A lookup that a caller waits for, and the reads that several lookups share. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from tidings_hub.brokers.base import HistorySnapshot
from tidings_hub.brokers.completion import Completion
from tidings_hub.brokers.lookup_script import LookupRequest
from tidings_hub.core.herd.shared_reads import merge_reads


@dataclass(slots=True)
class Lookup:
    """One lookup and its result. `activates`: subscribe to the channels of `request` and make them active."""

    request: LookupRequest
    deadline_s: float
    activates: bool = False
    done: Completion = field(default_factory=Completion)
    snapshot: HistorySnapshot | None = None
    error: str = ""


@dataclass(slots=True, frozen=True)
class SharedLookup:
    """One request to Redis for several lookups."""

    request: LookupRequest
    lookups: list[Lookup]

    def results(self, shared: HistorySnapshot) -> Iterator[tuple[Lookup, HistorySnapshot]]:
        """The lookups that the reply completes, each with its channels. The others need another read.

        A lookup with a read of its own is always complete: what does not fit for it alone is a gap. In a shared read
        even the first one may be cut, because the others need more of its channels.
        """
        for lookup in self.lookups:
            snapshot = replace(shared, channels={name: shared.channels[name] for name in lookup.request.channels})
            if len(self.lookups) == 1 or not _is_cut(lookup.request, snapshot):
                yield lookup, snapshot


def share_lookups(lookups: Sequence[Lookup], *, channels_max: int, bytes_max: int) -> list[SharedLookup]:
    """The requests that together answer these lookups, each with at most `channels_max` channels.

    The lookups must have the same bounds. `bytes_max` bounds the publications of one reply.
    """
    reads = [(lookup.request.channels, lookup.request.after) for lookup in lookups]
    return [
        SharedLookup(
            replace(
                lookups[read.readers[0]].request, channels=list(read.channels), after=read.after, bytes_max=bytes_max
            ),
            [lookups[reader] for reader in read.readers],
        )
        for read in merge_reads(reads, channels_max=channels_max)
    ]


def _is_cut(request: LookupRequest, snapshot: HistorySnapshot) -> bool:
    """Whether the read ended before a channel from which this request needs publications."""
    channels = snapshot.channels
    return any(channels[name].is_unread and seq < (channels[name].last or 0) for name, seq in request.after.items())
