"""The position of a node, and how it classifies publications that are not the next one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tidings.wire.cursor import Cursor
from tidings.wire.publication import Publication
from tidings_hub.core.positions import JUMP_MAX, Anomaly, Positions, Repair, Verdict
from tidings_hub.core.recovery import ChannelSnapshot, Gap, contiguous
from unit.tidings_hub.core.test_recovery import EPOCH, chain, publication

CHANNEL = "orders:1"


def tracked(last: int = 5, seq: int = 9) -> Positions:
    positions = Positions()
    positions.begin_epoch(EPOCH, seq)
    positions.track(CHANNEL, last)
    return positions


def judge(
    positions: Positions,
    candidate: Publication,
    *,
    seq: int = 100,
    last: int | None = None,
    stored: list[Publication] | None = None,
    epoch: str = EPOCH,
) -> Repair | Anomaly:
    return positions.classify(candidate, Cursor(epoch, seq), ChannelSnapshot(last, stored or []), limit=100)


def test_the_next_publication_is_delivered_and_moves_the_position() -> None:
    positions = tracked()
    assert positions.observe(publication(12, 5)) is Verdict.DELIVER
    assert (positions.last_seq(CHANNEL), positions.cursor) == (12, Cursor(EPOCH, 12))


def test_position_is_unknown_before_the_first_contact() -> None:
    assert Positions().cursor is None


def test_publication_of_an_untracked_channel_is_ignored() -> None:
    positions = tracked()
    positions.forget(CHANNEL)
    positions.forget(CHANNEL)
    assert positions.observe(publication(12, 5)) is Verdict.UNTRACKED
    assert (len(positions), positions.last_seq(CHANNEL)) == (0, None)


def test_publication_that_is_not_the_next_one_is_looked_up() -> None:
    positions = tracked()
    for candidate in (
        publication(12, 7),
        publication(12, 4),
        publication(5, 4),
        publication(12, 5, epoch="other"),
        publication(9 + JUMP_MAX + 1, 5),
    ):
        assert positions.observe(candidate) is Verdict.LOOK_UP
    assert positions.last_seq(CHANNEL) == 5


def test_after_a_repair_covered_publications_are_ignored() -> None:
    positions = tracked()
    positions.ignore_until(9)
    assert positions.observe(publication(4, 3)) is Verdict.ALREADY_REPAIRED
    assert positions.observe(publication(4, 3, epoch="old")) is Verdict.ALREADY_REPAIRED
    assert positions.observe(publication(12, 7)) is Verdict.LOOK_UP
    assert positions.observe(publication(12, 5)) is Verdict.DELIVER
    positions.ignore_until(0)
    assert positions.observe(publication(4, 3)) is Verdict.LOOK_UP


def test_regression_and_new_epoch_are_detected_first() -> None:
    positions = tracked()
    assert judge(positions, publication(12, 7), epoch="new") is Anomaly.NEW_EPOCH
    assert judge(positions, publication(12, 7), seq=8) is Anomaly.REGRESSION


def test_forged_publication_is_detected() -> None:
    positions = tracked()
    assert judge(positions, publication(101, 5), last=100) is Anomaly.FORGED
    assert judge(positions, publication(12, 5), last=11) is Anomaly.FORGED
    assert judge(positions, publication(12, 5, epoch="other"), last=12) is Anomaly.FORGED
    assert judge(positions, publication(10, 7), last=12, stored=chain(7, 12, first_prev=5)) is Anomaly.FORGED
    impostor = publication(12, 7)
    impostor.id = "another"
    assert judge(positions, impostor, last=12, stored=chain(7, 12, first_prev=5)) is Anomaly.FORGED


def test_messages_queued_before_the_start_count_as_replayed() -> None:
    assert judge(tracked(), publication(5, 4), last=5) is Anomaly.REPLAYED


def test_missed_publications_are_repaired_or_reported_as_lost() -> None:
    positions = tracked()
    stream = chain(7, 8, 12, first_prev=5)
    assert judge(positions, publication(12, 8), last=12, stored=stream) == Repair(stream[:2])
    assert judge(positions, publication(12, 8), last=12, stored=stream[1:]) == Repair(is_lost=True)
    assert judge(positions, publication(12, 8), last=12) == Repair(is_lost=True)
    assert judge(positions, publication(12, 8), last=None) == Repair(is_lost=True)


def test_large_jump_that_the_broker_confirms_is_not_a_loss() -> None:
    far = 9 + JUMP_MAX + 1
    assert judge(tracked(), publication(far, 5), seq=far, last=far) == Repair()


def test_publication_whose_prev_skips_processed_ones_must_be_in_the_stream() -> None:
    assert judge(tracked(), publication(12, 3), last=12, stored=[publication(12, 3)]) == Repair()
    assert judge(tracked(), publication(12, 3), last=12) == Repair(is_lost=True)


def test_first_publication_of_a_quiet_channel_names_any_earlier_seq() -> None:
    for prev in (0, 4, 5):
        positions = tracked()
        positions.track_quiet(CHANNEL, 5)
        assert (positions.last_seq(CHANNEL), positions.tracked_seq(CHANNEL)) == (5, 5)
        assert positions.observe(publication(12, prev)) is Verdict.DELIVER
        # From now on `prev` names a publication.
        assert positions.observe(publication(14, 4)) is Verdict.LOOK_UP
        assert positions.observe(publication(14, 12)) is Verdict.DELIVER


def test_channel_is_tracked_as_the_broker_stores_it() -> None:
    positions = tracked()
    assert positions.track_as_stored(CHANNEL, ChannelSnapshot(None, []), 9) == 9
    assert positions.observe(publication(12, 3)) is Verdict.DELIVER
    assert positions.track_as_stored(CHANNEL, ChannelSnapshot(7, []), 9) == 7
    assert positions.observe(publication(12, 3)) is Verdict.LOOK_UP
    assert positions.track_as_stored(CHANNEL, ChannelSnapshot(7, []), 9, floor=8) == 8
    assert positions.last_seq(CHANNEL) == 8


def test_quiet_channel_that_missed_its_first_publication_is_looked_up() -> None:
    positions = tracked()
    positions.track_quiet(CHANNEL, 0)
    assert positions.observe(publication(12, 7)) is Verdict.LOOK_UP
    stream = [publication(7, 0), publication(12, 7)]
    assert judge(positions, stream[1], last=12, stored=stream) == Repair(stream[:1])
    assert judge(positions, stream[1], last=12) == Repair(is_lost=True)


def test_large_jump_in_a_quiet_channel_is_not_a_loss() -> None:
    positions, far = tracked(), 9 + JUMP_MAX + 1
    positions.track_quiet(CHANNEL, 5)
    assert positions.observe(publication(far, 3)) is Verdict.LOOK_UP
    assert judge(positions, publication(far, 3), seq=far, last=far) == Repair()


@given(st.lists(st.sampled_from("abc"), max_size=60), st.data())
def test_node_delivers_or_reports_every_publication(names: list[str], data: st.DataObject) -> None:
    """Publish in three channels, drop and repeat messages at random, trim at random; then compare."""
    positions = Positions()
    positions.begin_epoch(EPOCH, 0)
    pointers = dict.fromkeys("abc", 0)
    streams: dict[str, list[Publication]] = {name: [] for name in "abc"}
    numbered: dict[str, list[int]] = {name: [] for name in "abc"}
    delivered: dict[str, list[int]] = {name: [] for name in "abc"}
    reported: dict[str, set[int]] = {name: set() for name in "abc"}
    for name in "abc":
        (positions.track_quiet if data.draw(st.booleans()) else positions.track)(name, 0)
    history: list[Publication] = []
    for seq, name in enumerate(names, start=1):
        candidate = publication(seq, pointers[name], channel=name)
        pointers[name] = seq
        streams[name] = [*streams[name], candidate][-data.draw(st.integers(1, 10)) :]
        numbered[name].append(seq)
        history.append(candidate)
        outcome = data.draw(st.sampled_from(["arrives", "arrives", "dropped", "repeated"]))
        arriving = {
            "arrives": [candidate],
            "dropped": [],
            "repeated": [candidate, data.draw(st.sampled_from(history))],
        }[outcome]
        for arrival in arriving:
            last = positions.tracked_seq(arrival.channel)
            verdict = positions.observe(arrival)
            if verdict is Verdict.DELIVER:
                delivered[arrival.channel].append(arrival.seq)
                continue
            stored = [
                stored_publication for stored_publication in streams[arrival.channel] if stored_publication.seq > last
            ]
            snapshot = ChannelSnapshot(pointers[arrival.channel], stored)
            result = positions.classify(arrival, Cursor(EPOCH, seq), snapshot, limit=100)
            if isinstance(result, Repair):
                if result.is_lost:
                    reported[arrival.channel].update(range(last + 1, arrival.seq))
                delivered[arrival.channel] += [stored_publication.seq for stored_publication in result.missed] + [
                    arrival.seq
                ]
                positions.accept(arrival)
            else:
                # A repeated message that was dropped before counts as its first arrival, not as a replay.
                assert result is Anomaly.REPLAYED
    for name in "abc":
        assert delivered[name] == sorted(set(delivered[name]))
        reached = positions.tracked_seq(name)
        for seq in numbered[name]:
            assert seq > reached or seq in delivered[name] or seq in reported[name]
        remaining = contiguous(reached, pointers[name], streams[name], epoch=EPOCH, limit=100)
        beyond = [seq for seq in numbered[name] if seq > reached]
        assert isinstance(remaining, Gap) or [candidate.seq for candidate in remaining] == beyond


def test_channels_are_ordered_by_their_newest_publication() -> None:
    positions = Positions()
    for channel, last in (("quiet:1", 3), ("busy:1", 90), ("busy:2", 80), ("quiet:2", 1)):
        positions.track(channel, last)
    positions.track_quiet("never:1", 95)
    assert positions.by_traffic() == ["busy:1", "busy:2", "quiet:1", "quiet:2", "never:1"]
