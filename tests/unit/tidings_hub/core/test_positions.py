"""How far a node is, and what it makes of publications that are not simply the next one."""

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
    one: Publication,
    *,
    seq: int = 100,
    last: int | None = None,
    kept: list[Publication] | None = None,
    epoch: str = EPOCH,
) -> Repair | Anomaly:
    return positions.classify(one, Cursor(epoch, seq), ChannelSnapshot(last, kept or []), limit=100)


def test_the_next_one_is_delivered_and_moves_the_position() -> None:
    positions = tracked()
    assert positions.observe(publication(12, 5)) is Verdict.DELIVER
    assert (positions.last_seq(CHANNEL), positions.cursor) == (12, Cursor(EPOCH, 12))


def test_before_the_first_contact_there_is_no_position() -> None:
    assert Positions().cursor is None


def test_an_untracked_channel_is_nobodys_business() -> None:
    positions = tracked()
    positions.forget(CHANNEL)
    positions.forget(CHANNEL)
    assert positions.observe(publication(12, 5)) is Verdict.UNTRACKED
    assert (len(positions), positions.last_seq(CHANNEL)) == (0, None)


def test_whatever_is_not_the_next_one_is_asked_about() -> None:
    positions = tracked()
    for one in (
        publication(12, 7),
        publication(12, 4),
        publication(5, 4),
        publication(12, 5, epoch="other"),
        publication(9 + JUMP_MAX + 1, 5),
    ):
        assert positions.observe(one) is Verdict.LOOK_UP
    assert positions.last_seq(CHANNEL) == 5


def test_after_a_repair_what_it_covered_is_passed_over_until_told_otherwise() -> None:
    positions = tracked()
    positions.ignore_until(9)
    assert positions.observe(publication(4, 3)) is Verdict.ALREADY_REPAIRED
    assert positions.observe(publication(4, 3, epoch="old")) is Verdict.ALREADY_REPAIRED
    assert positions.observe(publication(12, 7)) is Verdict.LOOK_UP
    assert positions.observe(publication(12, 5)) is Verdict.DELIVER
    positions.ignore_until(0)
    assert positions.observe(publication(4, 3)) is Verdict.LOOK_UP


def test_the_brokers_truth_comes_first() -> None:
    positions = tracked()
    assert judge(positions, publication(12, 7), epoch="new") is Anomaly.NEW_EPOCH
    assert judge(positions, publication(12, 7), seq=8) is Anomaly.REGRESSION


def test_what_was_never_made() -> None:
    positions = tracked()
    assert judge(positions, publication(101, 5), last=100) is Anomaly.FORGED
    assert judge(positions, publication(12, 5), last=11) is Anomaly.FORGED
    assert judge(positions, publication(12, 5, epoch="other"), last=12) is Anomaly.FORGED
    assert judge(positions, publication(10, 7), last=12, kept=chain(7, 12, first_prev=5)) is Anomaly.FORGED
    impostor = publication(12, 7)
    impostor.id = "another"
    assert judge(positions, impostor, last=12, kept=chain(7, 12, first_prev=5)) is Anomaly.FORGED


def test_what_was_already_there() -> None:
    assert judge(tracked(), publication(5, 4), last=5) is Anomaly.REPLAYED


def test_what_can_be_repaired_and_what_cannot() -> None:
    positions = tracked()
    whole = chain(7, 8, 12, first_prev=5)
    assert judge(positions, publication(12, 8), last=12, kept=whole) == Repair(whole[:2])
    assert judge(positions, publication(12, 8), last=12, kept=whole[1:]) == Repair(is_lost=True)
    assert judge(positions, publication(12, 8), last=12) == Repair(is_lost=True)
    assert judge(positions, publication(12, 8), last=None) == Repair(is_lost=True)


def test_a_far_jump_that_is_true_is_no_loss() -> None:
    far = 9 + JUMP_MAX + 1
    assert judge(tracked(), publication(far, 5), seq=far, last=far) == Repair()


def test_a_chain_that_leaves_out_what_was_seen_needs_the_stream_to_vouch_for_it() -> None:
    assert judge(tracked(), publication(12, 3), last=12, kept=[publication(12, 3)]) == Repair()
    assert judge(tracked(), publication(12, 3), last=12) == Repair(is_lost=True)


@given(st.lists(st.sampled_from("abc"), max_size=60), st.data())
def test_a_node_never_passes_over_a_loss(names: list[str], data: st.DataObject) -> None:
    """Publish in three channels, drop and repeat messages at random, trim at random; then compare."""
    positions = Positions()
    positions.begin_epoch(EPOCH, 0)
    pointers = dict.fromkeys("abc", 0)
    streams: dict[str, list[Publication]] = {name: [] for name in "abc"}
    made: dict[str, list[int]] = {name: [] for name in "abc"}
    delivered: dict[str, list[int]] = {name: [] for name in "abc"}
    excused: dict[str, set[int]] = {name: set() for name in "abc"}
    for name in "abc":
        positions.track(name, 0)
    history: list[Publication] = []
    for seq, name in enumerate(names, start=1):
        one = publication(seq, pointers[name], channel=name)
        pointers[name] = seq
        streams[name] = [*streams[name], one][-data.draw(st.integers(1, 10)) :]
        made[name].append(seq)
        history.append(one)
        fate = data.draw(st.sampled_from(["arrives", "arrives", "dropped", "repeated"]))
        arriving = {"arrives": [one], "dropped": [], "repeated": [one, data.draw(st.sampled_from(history))]}[fate]
        for each in arriving:
            last = positions.tracked_seq(each.channel)
            verdict = positions.observe(each)
            if verdict is Verdict.DELIVER:
                delivered[each.channel].append(each.seq)
                continue
            kept = [old for old in streams[each.channel] if old.seq > last]
            past = ChannelSnapshot(pointers[each.channel], kept)
            ruling = positions.classify(each, Cursor(EPOCH, seq), past, limit=100)
            if isinstance(ruling, Repair):
                if ruling.is_lost:
                    excused[each.channel].update(range(last + 1, each.seq))
                delivered[each.channel] += [old.seq for old in ruling.missed] + [each.seq]
                positions.accept(each)
            else:
                # A repeated message that was dropped before is no replay, it is the real thing.
                assert ruling is Anomaly.REPLAYED
    for name in "abc":
        assert delivered[name] == sorted(set(delivered[name]))
        reached = positions.tracked_seq(name)
        for seq in made[name]:
            assert seq > reached or seq in delivered[name] or seq in excused[name]
        rest = contiguous(reached, pointers[name], streams[name], epoch=EPOCH, limit=100)
        beyond = [seq for seq in made[name] if seq > reached]
        assert isinstance(rest, Gap) or [one.seq for one in rest] == beyond
