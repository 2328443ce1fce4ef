from __future__ import annotations

from itertools import pairwise

from tidings_hub.node.restart_backoff import FIRST_S, HEALTHY_S, MAX_S, RestartBackoff


def test_each_early_crash_doubles_the_wait_up_to_the_maximum() -> None:
    backoff, now_s, waits = RestartBackoff(), 100.0, []
    for _ in range(12):
        backoff.on_started(now_s=now_s)
        restart_at_s = backoff.on_exited(now_s=now_s + 1)
        waits.append(restart_at_s - now_s - 1)
        now_s = restart_at_s
    assert abs(waits[0] - FIRST_S) < 1e-9
    assert all(abs(later - min(2 * earlier, MAX_S)) < 1e-9 for earlier, later in pairwise(waits))
    assert abs(waits[-1] - MAX_S) < 1e-9


def test_a_healthy_run_resets_the_backoff() -> None:
    backoff = RestartBackoff()
    for _ in range(5):
        backoff.on_started(now_s=0)
        backoff.on_exited(now_s=1)
    backoff.on_started(now_s=10)
    assert backoff.on_exited(now_s=10 + HEALTHY_S) == 10 + HEALTHY_S + FIRST_S
