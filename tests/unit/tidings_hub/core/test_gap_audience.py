from __future__ import annotations

import pytest

from tidings.wire.claims import Claims
from tidings.wire.cursor import Cursor
from tidings_hub.core.gap_audience import affected_by_doubt, affected_by_loss
from tidings_hub.core.sessions import Session
from tidings_hub.core.subscriptions import Catchup, Subscriptions


def live(subscriptions: Subscriptions[str], connection: str, *channels: str) -> None:
    catchup = Catchup(connection, channels, None, hold_max=10)
    subscriptions.begin(catchup)
    subscriptions.finish(catchup)


def session(connection: str, *, recovered_at: int | None) -> Session[str]:
    opened = Session(connection, connection, Claims(sub=connection), 0.0)
    if recovered_at is not None:
        opened.record_recovery(recovered_at)
    return opened


def test_a_loss_affects_every_live_connection_with_its_own_channels() -> None:
    subscriptions: Subscriptions[str] = Subscriptions()
    live(subscriptions, "a", "o:1", "o:2")
    live(subscriptions, "b", "o:2")
    live(subscriptions, "c", "o:3")
    assert affected_by_loss(subscriptions, ["o:1", "o:2", "o:9"]) == {"a": ["o:1", "o:2"], "b": ["o:2"]}


def test_a_loss_marks_the_channel_of_a_running_recovery() -> None:
    subscriptions: Subscriptions[str] = Subscriptions()
    catchup = Catchup("a", ["o:1", "o:2"], None, hold_max=10)
    subscriptions.begin(catchup)
    assert affected_by_loss(subscriptions, ["o:1"]) == {}
    assert catchup.lost == {"o:1"}


@pytest.mark.parametrize(("seq", "is_affected"), [(4, False), (5, True), (7, True), (8, False)])
def test_a_doubt_affects_only_sessions_that_recovered_with_a_cursor_in_its_range(seq: int, is_affected: bool) -> None:
    subscriptions: Subscriptions[str] = Subscriptions()
    live(subscriptions, "a", "o:1")
    sessions = {"a": session("a", recovered_at=seq)}
    affected = affected_by_doubt(subscriptions, ["o:1"], 5, 7, sessions.get)
    assert affected == ({"a": ["o:1"]} if is_affected else {})


def test_a_doubt_does_not_affect_new_sessions_and_connections_without_one() -> None:
    subscriptions: Subscriptions[str] = Subscriptions()
    live(subscriptions, "a", "o:1")
    live(subscriptions, "b", "o:1")
    sessions = {"a": session("a", recovered_at=None)}
    assert affected_by_doubt(subscriptions, ["o:1"], 5, 7, sessions.get) == {}


@pytest.mark.parametrize(("since", "lost"), [("e.4", set()), ("e.5", {"o:1"}), ("x.9~e.6", {"o:1"}), (None, set())])
def test_a_doubt_marks_a_running_recovery_whose_cursor_is_in_its_range(since: str | None, lost: set[str]) -> None:
    subscriptions: Subscriptions[str] = Subscriptions()
    catchup = Catchup("a", ["o:1"], None if since is None else Cursor.parse(since), hold_max=10)
    subscriptions.begin(catchup)
    affected_by_doubt(subscriptions, ["o:1"], 5, 7, {}.get)
    assert catchup.lost == lost
