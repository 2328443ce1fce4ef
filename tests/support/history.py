"""Recorded histories and the checker that reads them.

A history is a file of JSON lines. A publisher notes `sending` before each publication and `acked` after it. A receiver
(a node's sink, a client) notes `subscribed`, `got`, `lost` (it received a gap) and `left`:

    {"who": "backend", "do": "sending", "channel": "orders:1", "id": "7"}
    {"who": "backend", "do": "acked", "channel": "orders:1", "id": "7", "cursor": "e.12"}
    {"who": "client 3", "do": "subscribed", "channel": "orders:1", "cursor": "e.10"}
    {"who": "client 3", "do": "got", "channel": "orders:1", "id": "7", "cursor": "e.12"}
    {"who": "client 3", "do": "lost", "channel": "orders:1", "cursor": "e.15"}
    {"who": "client 3", "do": "back", "channel": "orders:1", "since": "e.15", "cursor": "e.20", "recovered": true}

A client that reconnected notes `back` with the reply; `recovered: false` counts as `lost`. Every line has `at`, in
seconds of the machine's monotonic clock.

`check` compares a history with the guarantee:
- Each publication that was acknowledged, or that any receiver got, arrives at every receiver, or the receiver notes a
  `lost` in its place. This also finds each wrong `recovered: true`.
- No publication arrives twice. In a complete history, none arrives that was never sent.
- A channel has one order. Publications arrive in order of seq, and a seq is the same publication for all receivers. In
  a complete history a publication has one seq in an epoch. Epochs follow each other in one order.
- After `recovered: false` no earlier publication arrives, and no recovery spans two epochs.
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
    """Appends to a history. Thread-safe."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._file = path.open("a", encoding="utf-8")

    def note(self, actor: str, do: str, channel: str, **more: object) -> None:
        """Append one line."""
        at = round(time.monotonic(), 6)
        line = json.dumps({"who": actor, "do": do, "channel": channel, **more, "at": at})
        with self._lock:
            self._file.write(line + "\n")
            self._file.flush()

    def acked(self, actor: str, channel: str, id: str, answer: Receipt | TidingsError) -> None:
        """Note the result of a publish: a receipt as `acked`, an error as `refused`."""
        if isinstance(answer, Receipt):
            self.note(actor, "acked", channel, id=id, cursor=answer.cursor)
        else:
            self.note(actor, "refused", channel, id=id, error=answer.code_name)

    def close(self) -> None:
        self._file.close()


@dataclass
class Listener:
    """A sink that notes all calls and stores them for the test."""

    recorder: Recorder
    actor: str = "node"
    publications: list[Publication] = field(default_factory=list)
    losses: list[tuple[str, Cursor]] = field(default_factory=list)
    doubts: list[tuple[str, int, int]] = field(default_factory=list)
    controls: list[dict[str, object]] = field(default_factory=list)
    reply_to_control: Callable[[dict[str, object]], None] | None = None

    def deliver(self, publications: list[Publication]) -> None:
        for publication in publications:
            self.recorder.note(self.actor, "got", publication.channel, id=publication.id, cursor=publication.cursor)
        self.publications.extend(publications)

    def on_loss(self, channels: list[str], position: Cursor) -> None:
        for channel in channels:
            self.recorder.note(self.actor, "lost", channel, cursor=str(position))
        self.losses.extend((channel, position) for channel in channels)

    def on_doubt(self, channels: list[str], first: int, until: int, position: Cursor) -> bool:
        self.doubts.extend((channel, first, until) for channel in channels)
        return True

    def on_control(self, message: dict[str, object]) -> None:
        self.controls.append(message)
        if self.reply_to_control is not None:
            self.reply_to_control(message)

    def ids(self, channel: str) -> list[str]:
        """The ids of the publications of a channel, in order of arrival."""
        return [publication.id for publication in self.publications if publication.channel == channel]

    def lost_channels(self) -> set[str]:
        """The channels for which a loss was reported."""
        return {channel for channel, _ in self.losses}


Line = Mapping[str, Any]
_END = 10**12
_NOWHERE = Cursor("", 0)


def lines_of(*paths: Path) -> Iterator[Line]:
    """The lines of a history in order: of one file as they stand, of several by their time."""
    with ExitStack() as stack:
        files = [map(json.loads, stack.enter_context(path.open(encoding="utf-8", buffering=1 << 20))) for path in paths]
        yield from files[0] if len(files) == 1 else heapq.merge(*files, key=lambda line: line["at"])


def check(*paths: Path, is_complete: bool = False) -> list[str]:
    """Return each violation of the guarantee in a history as a sentence.

    `is_complete`: the history has every publish, and each one has its own id.
    """
    return Checker(lines_of(*paths), is_complete=is_complete).problems()


@dataclass(slots=True)
class Observation:
    """One line of a receiver about one channel. `lost`: the line reports a loss."""

    index: int
    do: str
    cursor: Cursor
    id: str = ""
    since: Cursor | None = None
    lost: bool = False


@dataclass(slots=True)
class Story:
    """The lines of one receiver about one channel, in order."""

    name: str
    observations: list[Observation] = field(default_factory=list)

    def of(self, do: str) -> list[Observation]:
        return [observation for observation in self.observations if observation.do == do]


@dataclass(slots=True)
class KnownPublication:
    """A publication that the broker acknowledged or that a receiver got."""

    cursor: Cursor
    id: str
    index: int
    acked: bool


class Checker:
    """Reads a history once; `stories` are by receiver and channel, `known` by channel and cursor."""

    def __init__(self, lines: Iterable[Line], *, is_complete: bool = False) -> None:
        self._is_complete = is_complete
        self.stories: dict[tuple[str, str], Story] = {}
        self.known: dict[str, dict[str, KnownPublication]] = {}
        self._sending: dict[tuple[str, str], int] = {}
        self._numbers: dict[tuple[str, str, str], str] = {}
        self._problems: list[str] = []
        for index, line in enumerate(lines):
            self._read(index, line)

    def problems(self) -> list[str]:
        """One sentence for each violation."""
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
            receiver = line["who"]
            story = self.stories.get((receiver, channel))
            if story is None:
                story = self.stories[receiver, channel] = Story(f"{receiver} in {channel}")
            since = Cursor.parse(line["since"]) if line.get("since") else None
            cursor = Cursor.parse(line["cursor"]) if "cursor" in line else _NOWHERE
            if do == "got":
                # The place of the publication. The rest of its cursor is about other buckets.
                cursor = Cursor(cursor.epoch, cursor.seq)
            observation = Observation(index, do, cursor, line.get("id", ""), since)
            observation.lost = do == "lost" or (do == "back" and not line["recovered"])
            story.observations.append(observation)
            if do == "got":
                self._know(index, channel, observation.id, cursor, receiver)

    def _know(self, index: int, channel: str, id: str, parsed: Cursor, receiver: str) -> None:
        cursor = str(parsed)
        publications = self.known.setdefault(channel, {})
        known = publications.get(cursor)
        if known is not None and known.id == id:
            known.acked = known.acked or receiver == "the receipt"
            return
        if known is not None:
            self._problems.append(f"{cursor} in {channel} is {known.id} for others and {id} for {receiver}")
            return
        sent = self._sending.get((channel, id))
        if sent is None and self._is_complete:
            self._problems.append(f"{receiver} in {channel}: {id} ({cursor}) was never sent")
        publications[cursor] = KnownPublication(parsed, id, index if sent is None else sent, receiver == "the receipt")
        number = self._numbers.setdefault((channel, parsed.epoch, id), cursor)
        if number != cursor and self._is_complete:
            self._problems.append(
                f"{id} in {channel} is {number} for others and {cursor} for {receiver}: published twice"
            )

    def _epochs(self) -> list[str]:
        """Receivers that saw two epochs in different orders."""
        before: dict[tuple[str, str], str] = {}
        for story in self.stories.values():
            for earlier, later in pairwise(story.of("got")):
                if earlier.cursor.epoch != later.cursor.epoch:
                    before.setdefault((earlier.cursor.epoch, later.cursor.epoch), story.name)
        return [
            f"{name}: epoch {later} came after {earlier}, for {before[later, earlier]} before it"
            for (earlier, later), name in before.items()
            if (later, earlier) in before and earlier < later
        ]


def _out_of_order(story: Story) -> list[str]:
    problems = []
    cursors: set[Cursor] = set()
    last: Cursor | None = None
    loss_reported = False
    for observation in story.observations:
        loss_reported = loss_reported or observation.lost
        if observation.do != "got":
            continue
        cursor = observation.cursor
        if cursor in cursors:
            problems.append(f"{story.name}: {cursor} came twice")
        cursors.add(cursor)
        if last is not None and last.epoch == cursor.epoch and cursor.seq < last.seq:
            problems.append(f"{story.name}: {cursor} came after {last}")
        if last is not None and last.epoch != cursor.epoch and not loss_reported:
            problems.append(f"{story.name}: the epoch changed from {last} to {cursor} and no loss was reported")
        last, loss_reported = cursor, False
    return problems


def _untrue(story: Story) -> list[str]:
    """Replies to a reconnect that cannot be true, whatever arrives later."""
    problems = []
    unrecovered: Observation | None = None
    for observation in story.observations:
        if observation.do == "back":
            unrecovered = observation if observation.lost else None
            if not observation.lost and observation.since is None:
                problems.append(f"{story.name}: recovered: true without a cursor to recover from")
            elif not observation.lost and observation.since and not _share(observation.since, observation.cursor):
                change = f"from {observation.since} to {observation.cursor}"
                problems.append(f"{story.name}: recovered: true {change}, another epoch")
        elif observation.do == "got" and unrecovered is not None and _is_before(observation.cursor, unrecovered.cursor):
            problems.append(f"{story.name}: {observation.cursor} came after recovered: false at {unrecovered.cursor}")
    return problems


def _is_before(first: Cursor, second: Cursor) -> bool:
    seq = second.seq_in(first.epoch)
    return seq is not None and first.seq <= seq


def _share(first: Cursor, second: Cursor) -> bool:
    """Whether both cursors have a position in at least one common epoch."""
    return any(second.seq_in(place.epoch) is not None for place in (first, *first.other_places))


def _missing(story: Story, known: Iterable[KnownPublication]) -> list[str]:
    starts, ends = story.of("subscribed"), story.of("left")
    if not starts:
        return []
    start, end = starts[0], ends[-1].index if ends else _END
    received = story.of("got")
    cursors = {observation.cursor for observation in received}
    lost = [observation.index for observation in story.observations if observation.lost]
    places: dict[str, _Places] = {}
    for epoch in {observation.cursor.epoch for observation in received}:
        places[epoch] = _Places([observation for observation in received if observation.cursor.epoch == epoch])
    problems = []
    for publication in known:
        cursor = publication.cursor
        if cursor in cursors or publication.index > end:
            continue
        known_seq = start.cursor.seq_in(cursor.epoch)
        if publication.index < start.index if known_seq is None else cursor.seq <= known_seq:
            continue
        after, before = places[cursor.epoch].around(cursor.seq) if cursor.epoch in places else (-1, _END)
        next_loss = bisect_left(lost, max(after, publication.index) + 1)
        if next_loss < len(lost) and lost[next_loss] < before:
            continue
        origin = "was acknowledged" if publication.acked else "was given to others"
        claim = _claim(story, after, before)
        problems.append(f"{story.name}: {publication.id} ({cursor}) {origin} and never came, and {claim}")
    return problems


class _Places:
    """The lines at which the publications of one epoch arrived."""

    def __init__(self, received: list[Observation]) -> None:
        ordered = sorted(received, key=lambda observation: observation.cursor.seq)
        self._seqs = [observation.cursor.seq for observation in ordered]
        self._latest = list(accumulate((observation.index for observation in ordered), max))
        self._earliest = list(accumulate((observation.index for observation in reversed(ordered)), min))[::-1]

    def around(self, seq: int) -> tuple[int, int]:
        """The lines between which a publication should have arrived."""
        at = bisect_left(self._seqs, seq)
        return self._latest[at - 1] if at else -1, self._earliest[at] if at < len(self._seqs) else _END


def _claim(story: Story, after: int, before: int) -> str:
    returns = [observation for observation in story.of("back") if after < observation.index < before]
    return f"{returns[-1].since} was answered with recovered: true" if returns else "no loss was reported"
