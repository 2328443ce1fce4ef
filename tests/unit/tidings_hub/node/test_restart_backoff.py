from __future__ import annotations

from itertools import pairwise

from tidings_hub.node.restart_backoff import FIRST_S, HEALTHY_S, MAX_S, RestartBackoff


def test_each_early_end_doubles_the_wait_up_to_a_bound() -> None:
    restarts, now_s, waits = RestartBackoff(), 100.0, []
    for _ in range(12):
        restarts.on_started(now_s=now_s)
        again_s = restarts.on_exited(now_s=now_s + 1)
        waits.append(again_s - now_s - 1)
        now_s = again_s
    assert abs(waits[0] - FIRST_S) < 1e-9
    assert all(abs(later - min(2 * earlier, MAX_S)) < 1e-9 for earlier, later in pairwise(waits))
    assert abs(waits[-1] - MAX_S) < 1e-9


def test_who_was_well_for_a_while_begins_anew() -> None:
    restarts = RestartBackoff()
    for _ in range(5):
        restarts.on_started(now_s=0)
        restarts.on_exited(now_s=1)
    restarts.on_started(now_s=10)
    assert restarts.on_exited(now_s=10 + HEALTHY_S) == 10 + HEALTHY_S + FIRST_S
