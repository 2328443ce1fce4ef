from __future__ import annotations

from tidings_notifications.core.delivery import Failed, Gone, Outcome, Retry, Sent


def test_outcomes_are_values() -> None:
    outcomes: list[Outcome] = [Sent(), Gone(), Retry(None, "busy"), Retry(5, "busy"), Failed("no")]
    assert len(set(outcomes)) == len(outcomes)
    assert Sent() == Sent()
