from __future__ import annotations

import pytest

from tidings.errors import Unavailable
from tidings_hub.core.lease import LeaseReply
from tidings_hub.ingress.crash_guard import CrashGuard, CrashVerdict


class Leases:
    """Leases that do not expire, in a broker that can be away."""

    def __init__(self) -> None:
        self.holders: dict[str, str] = {}
        self.away = False

    def __call__(self, name: str, holder: str, *, lease_s: float) -> LeaseReply:
        if self.away:
            raise Unavailable("away")
        if self.holders.get(name, holder) != holder:
            return LeaseReply.DENIED
        if not lease_s:
            self.holders.pop(name, None)
            return LeaseReply.DENIED
        self.holders[name] = holder
        return LeaseReply.ACQUIRED


def guards(leases: Leases, *, attempt_max_s: float = 0.0) -> tuple[CrashGuard, CrashGuard]:
    # The same name: the second one is the first one after a restart.
    return (
        CrashGuard(leases, node_id="n1", attempt_max_s=attempt_max_s),
        CrashGuard(leases, node_id="n1", attempt_max_s=attempt_max_s),
    )


def test_message_is_handled_again_after_a_finished_attempt() -> None:
    first, second = guards(Leases())
    for guard in (first, second, first):
        assert guard.begin("a") is CrashVerdict.HANDLE
        guard.finish("a")


def test_attempt_that_was_never_finished_is_a_crash() -> None:
    first, second = guards(Leases())
    assert first.begin("a") is CrashVerdict.HANDLE
    assert second.begin("a") is CrashVerdict.CRASHED
    assert second.begin("b") is CrashVerdict.HANDLE


def test_owner_that_lives_has_time_to_finish() -> None:
    first, second = guards(Leases(), attempt_max_s=60.0)
    assert first.begin("a") is CrashVerdict.HANDLE
    assert second.begin("a") is CrashVerdict.WAIT
    first.finish("a")
    assert second.begin("a") is CrashVerdict.HANDLE


def test_same_process_may_repeat_its_attempt() -> None:
    first, _ = guards(Leases())
    assert first.begin("a") is first.begin("a") is CrashVerdict.HANDLE


def test_lease_that_could_not_be_released_is_released_later() -> None:
    leases = Leases()
    first, second = guards(leases)
    first.begin("a")
    leases.away = True
    first.finish("a")
    with pytest.raises(Unavailable):
        first.begin("b")
    leases.away = False
    first.begin("b")
    assert second.begin("a") is CrashVerdict.HANDLE
