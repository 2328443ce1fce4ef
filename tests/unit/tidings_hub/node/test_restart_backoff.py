from __future__ import annotations

from itertools import pairwise

from tidings_hub.node.restart_backoff import FIRST_S, MOST_S, WELL_S, Restarts


def test_each_early_end_doubles_the_wait_up_to_a_bound() -> None:
    restarts, now_s, waits = Restarts(), 100.0, []
    for _ in range(12):
        restarts.began(now_s=now_s)
        again_s = restarts.ended(now_s=now_s + 1)
        waits.append(again_s - now_s - 1)
        now_s = again_s
    assert abs(waits[0] - FIRST_S) < 1e-9
    assert all(abs(later - min(2 * earlier, MOST_S)) < 1e-9 for earlier, later in pairwise(waits))
    assert abs(waits[-1] - MOST_S) < 1e-9


def test_who_was_well_for_a_while_begins_anew() -> None:
    restarts = Restarts()
    for _ in range(5):
        restarts.began(now_s=0)
        restarts.ended(now_s=1)
    restarts.began(now_s=10)
    assert restarts.ended(now_s=10 + WELL_S) == 10 + WELL_S + FIRST_S
