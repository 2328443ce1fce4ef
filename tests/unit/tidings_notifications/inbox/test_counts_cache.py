"""`CountsCache`: bounded, never older than what it has, and its values are copies."""

from __future__ import annotations

from tidings_notifications.core.counts import InboxCounts
from tidings_notifications.inbox.counts_cache import CountsCache, KnownInboxes


def counts_of(cache: CountsCache, user: str) -> InboxCounts | None:
    known = cache.get({user})
    return None if known is None else known.counts[user]


def are_published(cache: CountsCache, *users: str) -> bool:
    known = cache.get(users)
    assert known is not None
    return known.are_published


def test_unknown_user_makes_the_whole_answer_unknown() -> None:
    cache = CountsCache()
    cache.put([InboxCounts("7", 1, 2, 3)])
    assert cache.get({"7"}) == KnownInboxes({"7": InboxCounts("7", 1, 2, 3)}, are_published=False)
    assert cache.get({"7", "8"}) is None


def test_change_of_a_copy_changes_nothing() -> None:
    cache = CountsCache()
    counts = InboxCounts("7", 1, 2, 3)
    cache.put([counts])
    counts.version = 4
    copies = cache.get({"7"})
    assert copies is not None
    copies.counts["7"].version = 5
    assert counts_of(cache, "7") == InboxCounts("7", 1, 2, 3)


def test_older_counts_do_not_replace_newer_ones() -> None:
    cache = CountsCache()
    cache.put([InboxCounts("7", 2, 2, 9)])
    cache.put([InboxCounts("7", 1, 1, 8)])
    assert counts_of(cache, "7") == InboxCounts("7", 2, 2, 9)


def test_forgotten_user_is_unknown() -> None:
    cache = CountsCache()
    cache.put([InboxCounts("7"), InboxCounts("8")])
    cache.forget({"7", "9"})
    assert cache.get({"7"}) is None
    assert cache.get({"8"}) is not None


def test_user_that_was_not_used_for_longest_is_dropped() -> None:
    cache = CountsCache(users_max=2)
    cache.put([InboxCounts("7"), InboxCounts("8")])
    cache.get({"7"})
    cache.put([InboxCounts("9")])
    assert cache.get({"8"}) is None
    assert cache.get({"7", "9"}) is not None


def test_events_are_published_once_all_users_have_their_last_version_published() -> None:
    cache = CountsCache()
    cache.put([InboxCounts("7", version=3), InboxCounts("8", version=5)])
    assert not are_published(cache, "7")
    cache.set_published({"7": 3, "unknown": 1})
    assert are_published(cache, "7")
    assert not are_published(cache, "7", "8")
    cache.set_published({"8": 5})
    assert are_published(cache, "7", "8")


def test_event_of_an_earlier_version_says_nothing_of_the_last_one() -> None:
    cache = CountsCache()
    cache.put([InboxCounts("7", version=4)])
    cache.set_published({"7": 3})
    assert not are_published(cache, "7")
    cache.set_published({"7": 4})
    cache.put([InboxCounts("7", version=5)])
    assert not are_published(cache, "7")


def test_user_that_is_known_again_has_nothing_published() -> None:
    cache = CountsCache()
    cache.put([InboxCounts("7", version=4)])
    cache.set_published({"7": 4})
    cache.forget({"7"})
    cache.put([InboxCounts("7", version=4)])
    assert not are_published(cache, "7")
