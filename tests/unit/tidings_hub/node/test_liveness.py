from __future__ import annotations

from tidings_hub.node.liveness import Liveness


def started() -> Liveness:
    liveness = Liveness(timeout_s=20.0, start_timeout_s=60.0)
    liveness.on_started(now_s=100.0)
    return liveness


def test_worker_that_loads_its_modules_has_the_time_of_a_start() -> None:
    assert started().hangs_at_s == 160.0


def test_worker_hangs_when_its_heartbeats_end() -> None:
    liveness = started()
    liveness.has_listened = True
    liveness.on_beat(now_s=150.0)
    assert liveness.hangs_at_s == 170.0
    liveness.on_beat(now_s=165.0)
    assert liveness.hangs_at_s == 185.0


def test_worker_that_lives_but_never_listens_hangs() -> None:
    liveness = started()
    liveness.on_beat(now_s=110.0)
    assert liveness.hangs_at_s == 130.0
    liveness.on_beat(now_s=159.0)
    assert liveness.hangs_at_s == 160.0


def test_time_in_which_the_supervisor_was_stopped_does_not_count() -> None:
    liveness = started()
    liveness.has_listened = True
    liveness.on_beat(now_s=150.0)
    liveness.on_resumed(300.0, now_s=460.0)
    assert liveness.hangs_at_s == 480.0


def test_new_process_starts_over() -> None:
    liveness = started()
    liveness.has_listened = True
    liveness.on_beat(now_s=150.0)
    liveness.on_started(now_s=200.0)
    assert not liveness.has_listened
    assert liveness.hangs_at_s == 260.0
