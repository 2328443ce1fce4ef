"""A doubt counts as processed only if it is, whatever messages are lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tidings_hub.core.doubts import EVERYWHERE, RANGES_MAX
from tidings_hub.core.processed_doubts import ProcessedDoubts, Range
from tidings_hub.core.seq_ranges import SeqRange, with_range

CHANNELS = ("a", "b", "c")
STEP = 10


def test_only_what_is_new_of_a_range_is_processed() -> None:
    doubts = ProcessedDoubts(channels_max=10)
    assert doubts.receive(1, [("a", 5, 9), ("b", 9, 9)]) == [("a", 5, 9), ("b", 9, 9)]
    assert doubts.receive(2, [("a", 3, 19)]) == [("a", 3, 4), ("a", 10, 19)]
    assert doubts.receive(3, [("a", 40, 49)]) == [("a", 40, 49)]
    assert doubts.receive(3, [("a", 40, 49)]) == []
    # Clients that resumed with a cursor between two ranges have nothing to do with it.
    assert doubts.read(4, [("a", 3, 19), ("a", 40, 49), ("b", 9, 9), ("b", 30, 59)]) == [("b", 30, 59)]
    assert doubts.serial == 4


def test_new_epoch_begins_with_nothing_processed() -> None:
    doubts = ProcessedDoubts(channels_max=10)
    doubts.receive(1, [("a", 5, 9)])
    doubts.clear()
    assert doubts.serial == 0
    assert doubts.receive(1, [("a", 5, 9)]) == [("a", 5, 9)]


def test_beyond_the_limit_of_ranges_the_oldest_is_processed_again() -> None:
    doubts = ProcessedDoubts(channels_max=10)
    stored = [("a", 10 * number, 10 * number + 1) for number in range(RANGES_MAX + 1)]
    for serial, stored_range in enumerate(stored, start=1):
        assert doubts.receive(serial, [stored_range]) == [stored_range]
    assert doubts.read(99, [("a", 0, 11), *stored[2:]]) == [("a", 0, 9)]


def test_range_for_all_channels_is_new_only_after_a_lost_message() -> None:
    doubts = ProcessedDoubts(channels_max=1)
    doubts.receive(1, [("a", 5, 9)])
    doubts.receive(2, [("b", 7, 19)])
    assert doubts.read(3, [(EVERYWHERE, 5, 19)]) == []
    # The message that is missing may have doubted any of these cursors, in any channel.
    assert doubts.read(4, [(EVERYWHERE, 5, 39)]) == [(EVERYWHERE, 5, 39)]
    assert doubts.read(5, [(EVERYWHERE, 5, 39), (EVERYWHERE, 60, 69)]) == [(EVERYWHERE, 60, 69)]


def test_lost_message_before_the_limit_of_channels_is_not_taken_for_processed() -> None:
    doubts = ProcessedDoubts(channels_max=1)
    # Message 1 doubted 2 to 9 in channel c.
    doubts.receive(2, [("a", 5, 19)])
    doubts.receive(3, [("b", 7, 29)])
    assert doubts.read(3, [(EVERYWHERE, 2, 29)]) == [(EVERYWHERE, 2, 29)]


class Broker:
    """The doubts as doubt.lua stores them, without a maximum of ranges."""

    def __init__(self, channels_max: int) -> None:
        self.channels_max = channels_max
        self.ranges: dict[str, list[SeqRange]] = {}

    def add(self, name: str, first: int, last: int) -> None:
        self.ranges[name] = with_range(self.ranges.get(name, ()), first, last)
        own = [known for channel, known in self.ranges.items() if channel != EVERYWHERE]
        if len(own) > self.channels_max:
            everywhere = with_range(self.ranges.get(EVERYWHERE, ()), min(known[0][0] for known in own), last)
            self.ranges = {EVERYWHERE: everywhere}

    def all(self) -> list[Range]:
        return [(name, *doubted) for name, known in self.ranges.items() for doubted in known]


@given(
    st.integers(1, 3),
    st.lists(st.tuples(st.sampled_from(CHANNELS), st.integers(0, 25), st.booleans(), st.booleans()), max_size=12),
)
def test_every_doubt_is_processed_once_a_lookup_shows_its_number(
    channels_max: int, losses: list[tuple[str, int, bool, bool]]
) -> None:
    """A client that had resumed with a doubted cursor before the doubt receives the gap after it."""
    broker, doubts = Broker(channels_max), ProcessedDoubts(channels_max=channels_max)
    # Per channel and cursor, the last doubt about it, and the last one before which this node notified its clients.
    doubted: dict[tuple[str, int], int] = {}
    notified: dict[tuple[str, int], int] = {}

    def process(ranges: list[Range], serial: int) -> None:
        for name, first, last in ranges:
            for channel in CHANNELS if name == EVERYWHERE else (name,):
                notified.update({(channel, seq): serial for seq in range(first, last + 1)})

    for serial, (channel, back, is_lost, is_read) in enumerate(losses, start=1):
        last = serial * STEP
        first = max(0, last - back)
        broker.add(channel, first, last)
        # A cursor that was doubted and notified before counts no more: its client has reloaded since.
        for seq in range(first, last + 1):
            doubted.setdefault((channel, seq), serial)
        if not is_lost:
            process(doubts.receive(serial, [(channel, first, last)]), serial)
        if is_read or serial == len(losses):
            process(doubts.read(serial, broker.all()), serial)
    assert all(notified.get(cursor, 0) >= serial for cursor, serial in doubted.items())
