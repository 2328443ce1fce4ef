"""Recorded histories and the checker that reads them.

A history is a file of JSON lines. Whoever publishes notes `sending` before and `acked` after; whoever
receives (a node's sink, a client) notes `subscribed`, `got`, `lost` (it was told of a gap) and `left`:

    {"who": "backend", "do": "sending", "channel": "orders:1", "id": "7"}
    {"who": "backend", "do": "acked", "channel": "orders:1", "id": "7", "cursor": "e.12"}
    {"who": "client 3", "do": "subscribed", "channel": "orders:1", "cursor": "e.10"}
    {"who": "client 3", "do": "got", "channel": "orders:1", "id": "7", "cursor": "e.12"}
    {"who": "client 3", "do": "lost", "channel": "orders:1", "cursor": "e.15"}
    {"who": "client 3", "do": "back", "channel": "orders:1", "since": "e.15", "cursor": "e.20", "recovered": true}

A client that came back notes `back` with what it was told; `recovered: false` counts as `lost`. Every line
has `at`, seconds of the machine's monotonic clock.

`check` holds a history against the promise:
- no acknowledged publication, and none that anybody received, is missing at any receiver without a `lost`
  in its place, and so no `recovered: true` is wrong;
- none came twice, and (in a `whole` history) none that was never sent;
- one order per channel for everybody: what came is in order of seq, a seq is the same publication for all,
  a publication has one seq in an epoch (in a `whole` history), and epochs follow each other in one order;
- after `recovered: false` nothing of the past comes, and no recovery spans two epochs.
"""

from __future__ import annotations

import heapq
import json
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from tidings.errors import TidingsError
from tidings.receipts import Receipt
from tidings.wire.cursor import Cursor
from tidings.wire.publication import Publication


class Recorder:
    """Appends to a history; from any thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._file = path.open("a", encoding="utf-8")

    def note(self, actor: str, do: str, channel: str, **more: object) -> None:
        """One line."""
        at = round(time.monotonic(), 6)
        line = json.dumps({"who": actor, "do": do, "channel": channel, **more, "at": at})
        with self._lock:
            self._file.write(line + "\n")
            self._file.flush()

    def acked(self, actor: str, channel: str, id: str, answer: Receipt | TidingsError) -> None:
        """What a publish returned; an error is noted as `refused`."""
        if isinstance(answer, Receipt):
            self.note(actor, "acked", channel, id=id, cursor=answer.cursor)
        else:
            self.note(actor, "refused", channel, id=id, error=answer.code_name)

    def close(self) -> None:
        self._file.close()


@dataclass
class Listener:
    """A sink that notes everything, and keeps it for the test to look at."""

    recorder: Recorder
    actor: str = "node"
    got: list[Publication] = field(default_factory=list)
    told: list[tuple[str, Cursor]] = field(default_factory=list)
    doubts: list[tuple[str, int, int]] = field(default_factory=list)
    controls: list[dict[str, object]] = field(default_factory=list)
    reply_to_control: Callable[[dict[str, object]], None] | None = None

    def deliver(self, publications: list[Publication]) -> None:
        for one in publications:
            self.recorder.note(self.actor, "got", one.channel, id=one.id, cursor=one.cursor)
        self.got.extend(publications)

    def on_loss(self, channels: list[str], position: Cursor) -> None:
        for channel in channels:
            self.recorder.note(self.actor, "lost", channel, cursor=str(position))
        self.told.extend((channel, position) for channel in channels)

    def on_doubt(self, channels: list[str], first: int, until: int, position: Cursor) -> bool:
        self.doubts.extend((channel, first, until) for channel in channels)
        return True

    def on_control(self, message: dict[str, object]) -> None:
        self.controls.append(message)
        if self.reply_to_control is not None:
            self.reply_to_control(message)

    def ids(self, channel: str) -> list[str]:
        """The ids that came, in order."""
        return [one.id for one in self.got if one.channel == channel]

    def lost_channels(self) -> set[str]:
        """The channels that were told as lost."""
        return {channel for channel, _ in self.told}


Line = Mapping[str, Any]
_END = 10**12
_NOWHERE = Cursor("", 0)


def lines_of(*paths: Path) -> Iterator[Line]:
    """The lines of a history in order: of one file as they stand, of several by their time."""
    with ExitStack() as stack:
        files = [map(json.loads, stack.enter_context(path.open(encoding="utf-8", buffering=1 << 20))) for path in paths]
        yield from files[0] if len(files) == 1 else heapq.merge(*files, key=lambda line: line["at"])


def check(*paths: Path, is_complete: bool = False) -> list[str]:
    """What is wrong in a history, one sentence each; empty when it keeps the promise.

    `whole`: every publish is in it, each with an id of its own.
    """
    return Checker(lines_of(*paths), whole=is_complete).problems()


@dataclass(slots=True)
class Heard:
    """One thing that a receiver noted in one channel. `lost`: it was told that something is missing."""

    index: int
    do: str
    cursor: Cursor
    id: str = ""
    since: Cursor | None = None
    lost: bool = False


@dataclass(slots=True)
class Story:
    """What one receiver noted in one channel, in its order."""

    name: str
    heard: list[Heard] = field(default_factory=list)

    def of(self, do: str) -> list[Heard]:
        return [one for one in self.heard if one.do == do]


@dataclass(slots=True)
class Known:
    """A publication of which somebody knows: the broker acknowledged it, or somebody received it."""

    cursor: Cursor
    id: str
    index: int
    acked: bool


class Checker:
    """Reads a history once; `stories` are by receiver and channel, `known` by channel and cursor."""

    def __init__(self, lines: Iterable[Line], *, whole: bool = False) -> None:
        self._whole = whole
        self.stories: dict[tuple[str, str], Story] = {}
        self.known: dict[str, dict[str, Known]] = {}
        self._sending: dict[tuple[str, str], int] = {}
        self._numbers: dict[tuple[str, str, str], str] = {}
        self._problems: list[str] = []
        for index, line in enumerate(lines):
            self._read(index, line)

    def problems(self) -> list[str]:
        """One sentence for each thing that is wrong."""
        problems = list(self._problems)
        problems += self._epochs()
        for (_, channel), story in self.stories.items():
            problems += _out_of_order(story)
            problems += _untrue(story)
            problems += _missing(story, self.known.get(channel, {}).values())
        return problems

    def _read(self, index: int, line: Line) -> None:
        do, channel = line["do"], line["channel"]
        if do == "sending":
            self._sending.setdefault((channel, line["id"]), index)
        elif do == "acked":
            self._know(index, channel, line["id"], Cursor.parse(line["cursor"]), "the receipt")
        elif do in {"subscribed", "got", "lost", "left", "back"}:
            who = line["who"]
            story = self.stories.get((who, channel))
            if story is None:
                story = self.stories[who, channel] = Story(f"{who} in {channel}")
            since = Cursor.parse(line["since"]) if line.get("since") else None
            cursor = Cursor.parse(line["cursor"]) if "cursor" in line else _NOWHERE
            if do == "got":
                # A publication's own place: what else its cursor says is of other buckets.
                cursor = Cursor(cursor.epoch, cursor.seq)
            heard = Heard(index, do, cursor, line.get("id", ""), since)
            heard.lost = do == "lost" or (do == "back" and not line["recovered"])
            story.heard.append(heard)
            if do == "got":
                self._know(index, channel, heard.id, cursor, who)

    def _know(self, index: int, channel: str, id: str, parsed: Cursor, who: str) -> None:
        cursor = str(parsed)
        found = self.known.setdefault(channel, {})
        known = found.get(cursor)
        if known is not None and known.id == id:
            known.acked = known.acked or who == "the receipt"
            return
        if known is not None:
            self._problems.append(f"{cursor} in {channel} is {known.id} for others and {id} for {who}")
            return
        sent = self._sending.get((channel, id))
        if sent is None and self._whole:
            self._problems.append(f"{who} in {channel}: {id} ({cursor}) was never sent")
        found[cursor] = Known(parsed, id, index if sent is None else sent, who == "the receipt")
        number = self._numbers.setdefault((channel, parsed.epoch, id), cursor)
        if number != cursor and self._whole:
            self._problems.append(f"{id} in {channel} is {number} for others and {cursor} for {who}: published twice")

    def _epochs(self) -> list[str]:
        """Epochs in which order: whoever saw two of them saw them in the same order as everybody."""
        before: dict[tuple[str, str], str] = {}
        for story in self.stories.values():
            for one, other in pairwise(story.of("got")):
                if one.cursor.epoch != other.cursor.epoch:
                    before.setdefault((one.cursor.epoch, other.cursor.epoch), story.name)
        return [
            f"{name}: epoch {other} came after {one}, for {before[other, one]} before it"
            for (one, other), name in before.items()
            if (other, one) in before and one < other
        ]


def _out_of_order(story: Story) -> list[str]:
    problems = []
    seen: set[Cursor] = set()
    last: Cursor | None = None
    told = False
    for one in story.heard:
        told = told or one.lost
        if one.do != "got":
            continue
        cursor = one.cursor
        if cursor in seen:
            problems.append(f"{story.name}: {cursor} came twice")
        seen.add(cursor)
        if last is not None and last.epoch == cursor.epoch and cursor.seq < last.seq:
            problems.append(f"{story.name}: {cursor} came after {last}")
        if last is not None and last.epoch != cursor.epoch and not told:
            problems.append(f"{story.name}: the epoch changed from {last} to {cursor} and nobody was told")
        last, told = cursor, False
    return problems


def _untrue(story: Story) -> list[str]:
    """Answers to a return that cannot be true, whatever comes."""
    problems = []
    unrecovered: Heard | None = None
    for one in story.heard:
        if one.do == "back":
            unrecovered = one if one.lost else None
            if not one.lost and one.since is None:
                problems.append(f"{story.name}: recovered: true without a cursor to recover from")
            elif not one.lost and one.since is not None and not _share(one.since, one.cursor):
                problems.append(f"{story.name}: recovered: true from {one.since} to {one.cursor}, another epoch")
        elif one.do == "got" and unrecovered is not None and _is_before(one.cursor, unrecovered.cursor):
            problems.append(f"{story.name}: {one.cursor} came after recovered: false at {unrecovered.cursor}")
    return problems


def _is_before(one: Cursor, other: Cursor) -> bool:
    seq = other.seq_in(one.epoch)
    return seq is not None and one.seq <= seq


def _share(one: Cursor, other: Cursor) -> bool:
    """Whether they have a place in one sequence at least."""
    return any(other.seq_in(place.epoch) is not None for place in (one, *one.other_places))


def _missing(story: Story, known: Iterable[Known]) -> list[str]:
    starts, ends = story.of("subscribed"), story.of("left")
    if not starts:
        return []
    start, end = starts[0], ends[-1].index if ends else _END
    got = story.of("got")
    had = {one.cursor for one in got}
    lost = [one.index for one in story.heard if one.lost]
    places: dict[str, _Places] = {}
    for epoch in {one.cursor.epoch for one in got}:
        places[epoch] = _Places([one for one in got if one.cursor.epoch == epoch])
    problems = []
    for one in known:
        cursor = one.cursor
        if cursor in had or one.index > end:
            continue
        known_seq = start.cursor.seq_in(cursor.epoch)
        if one.index < start.index if known_seq is None else cursor.seq <= known_seq:
            continue
        after, before = places[cursor.epoch].around(cursor.seq) if cursor.epoch in places else (-1, _END)
        told = bisect_left(lost, max(after, one.index) + 1)
        if told < len(lost) and lost[told] < before:
            continue
        what = "was acknowledged" if one.acked else "was given to others"
        problems.append(f"{story.name}: {one.id} ({cursor}) {what} and never came, and {_told(story, after, before)}")
    return problems


class _Places:
    """Where in the history the publications of one epoch came."""

    def __init__(self, got: list[Heard]) -> None:
        ordered = sorted(got, key=lambda one: one.cursor.seq)
        self._seqs = [one.cursor.seq for one in ordered]
        self._latest = list(accumulate((one.index for one in ordered), max))
        self._earliest = list(accumulate((one.index for one in reversed(ordered)), min))[::-1]

    def around(self, seq: int) -> tuple[int, int]:
        """After which line a publication should have come, and before which."""
        at = bisect_left(self._seqs, seq)
        return self._latest[at - 1] if at else -1, self._earliest[at] if at < len(self._seqs) else _END


def _told(story: Story, after: int, before: int) -> str:
    returns = [one for one in story.of("back") if after < one.index < before]
    return f"{returns[-1].since} was told recovered: true" if returns else "nobody was told"
