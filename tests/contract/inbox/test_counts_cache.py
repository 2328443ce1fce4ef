"""Batches that are written without a read, while what the service remembers of the inboxes is outdated."""

from __future__ import annotations

import pytest

from support.inbox import CATEGORIES, InboxBench, notification
from tidings_notifications.core.notification import State, Stored
from tidings_notifications.inbox import Inbox


@pytest.fixture
def other(bench: InboxBench) -> InboxBench:
    """Another service on the same database. `bench` knows the counts of user 7."""
    bench.store(notification("first"))
    bench.store(notification("second"))
    bench.now_ms += 1
    # Its clock is ahead, so that what it stores is newer.
    return InboxBench(bench.database, Inbox(bench.database, CATEGORIES), now_ms=bench.now_ms + 1)


def test_services_that_store_in_turns_lose_nothing(bench: InboxBench, other: InboxBench) -> None:
    for number in range(6):
        service = (bench, other)[number % 2]
        service.store(notification(str(number)))
        service.now_ms += 2
    assert bench.titles() == ["5", "4", "3", "2", "1", "0", "second", "first"]
    bench.check()


def test_marks_of_another_service_are_kept(bench: InboxBench, other: InboxBench) -> None:
    other.inbox.mark_all("7", "read", other.now_ms)
    bench.store(notification("third"))
    assert bench.page().counts["unread"] == 1
    bench.check()


def test_own_marks_are_kept(bench: InboxBench, other: InboxBench) -> None:
    bench.inbox.mark_all("7", "read", bench.now_ms)
    bench.store(notification("third"))
    assert bench.page().counts["unread"] == 1
    bench.check()


def test_id_that_another_service_has_stored_is_a_duplicate(bench: InboxBench, other: InboxBench) -> None:
    other.store(notification("third", caller_id="same"))
    # With this one, `bench` knows the latest version again.
    bench.now_ms += 2
    bench.store(notification("fourth"))
    [result] = bench.store(notification("third", caller_id="same"))
    assert isinstance(result, Stored)
    assert result.duplicate
    assert bench.titles() == ["fourth", "third", "second", "first"]
    bench.check()


def test_repetition_that_has_expired_meanwhile_is_still_a_duplicate(bench: InboxBench, other: InboxBench) -> None:
    new = notification("third", caller_id="same", expires_ms=bench.now_ms + 1000)
    bench.store(new)
    bench.now_ms += 2000
    [result] = bench.store(new)
    assert isinstance(result, Stored)
    assert result.duplicate
    bench.inbox.sweep(bench.now_ms)
    bench.check()


def test_category_that_was_switched_off_at_another_service_stays_off(bench: InboxBench, other: InboxBench) -> None:
    other.inbox.set_preference("7", "order", "in_app", enabled=False)
    results = bench.store(notification("third"), notification("alert", category="alert"))
    assert [result.state for result in results if isinstance(result, Stored)] == [State.SUPPRESSED, State.STORED]
    assert bench.titles() == ["alert", "second", "first"]
    bench.store(notification("alert again", category="alert"))
    [result] = bench.store(notification("fourth"))
    assert isinstance(result, Stored)
    assert result.state is State.SUPPRESSED
    bench.check()


def test_group_replaces_what_another_service_has_stored(bench: InboxBench, other: InboxBench) -> None:
    other.store(notification("old", group="g"))
    bench.store(notification("new", group="g"))
    assert bench.titles() == ["new", "second", "first"]
    bench.check()


def test_one_outdated_inbox_of_a_batch_changes_nothing_for_the_others(bench: InboxBench, other: InboxBench) -> None:
    users = ["7", "8", "9"]
    bench.store(*(notification("old", user=user) for user in users))
    other.store(notification("between", user="8"))
    bench.now_ms += 2
    bench.store(*(notification("new", user=user) for user in users))
    assert [bench.titles(user)[:2] for user in users] == [["new", "old"], ["new", "between"], ["new", "old"]]
    bench.check()
