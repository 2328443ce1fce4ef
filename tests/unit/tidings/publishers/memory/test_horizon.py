"""The horizon in memory: which past a channel without a pointer has."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from contract.broker_contract import outgoing
from tidings.publishers.memory.horizon import Horizon
from tidings.publishers.memory.store import MemoryStore
from tidings.receipts import Receipt
from tidings.wire.cursor import Cursor

LIFE_S = 14_400


def test_first_look_knows_nothing_of_the_past() -> None:
    assert Horizon().seq(7, life_s=LIFE_S, now_s=0) == 7


def test_horizon_is_between_fourteen_and_fifteen_sixteenths_of_the_life_ago() -> None:
    horizon = Horizon()
    # One publication a second, and a look at each.
    for second in range(3 * LIFE_S):
        seq = horizon.seq(second, life_s=LIFE_S, now_s=second)
        assert second - seq <= LIFE_S * 15 / 16
        assert second < LIFE_S or second - seq >= LIFE_S * 14 / 16


def test_nothing_is_known_after_the_marks_were_cleared() -> None:
    horizon = Horizon()
    horizon.seq(1, life_s=LIFE_S, now_s=0)
    assert horizon.seq(2, life_s=LIFE_S, now_s=1) == 1
    horizon.clear()
    assert horizon.seq(3, life_s=LIFE_S, now_s=2) == 3


STEPS = st.tuples(st.sampled_from(["publish", "look", "shorter", "longer"]), st.integers(0, 9_000), st.integers(0, 3))


@given(st.lists(STEPS, max_size=60))
def test_channel_without_a_pointer_has_no_publication_after_the_horizon(steps: list[tuple[str, int, int]]) -> None:
    clock = [0.0]
    store = MemoryStore(now_s=lambda: clock[0])
    store.write_rules({"*": (0, 60)}, pointer_ttl_s=LIFE_S)
    published: dict[str, int] = {}
    for step, pause_s, number in steps:
        clock[0] += pause_s
        channel = f"orders:{number}"
        if step == "publish":
            receipt = store.publish(outgoing(channel))
            assert isinstance(receipt, Receipt)
            published[channel] = Cursor.parse(receipt.cursor).seq
        elif step == "look":
            with store.lock:
                ((last, _),) = store.read_channels([channel], None, limit=1).values()
                horizon = store.horizon()
            assert last == published.get(channel) or (last is None and published.get(channel, 0) <= horizon)
        else:
            store.write_rules({"*": (0, 60)}, pointer_ttl_s=LIFE_S if step == "shorter" else 4 * LIFE_S)
