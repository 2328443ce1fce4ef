"""Push subscriptions on every database."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from support.inbox import START_MS, InboxBench
from tidings.errors import Forbidden
from tidings_notifications.core.push_subscription import NewSubscription
from tidings_notifications.inbox.subscriptions import Subscriptions

DAY_MS = 86_400_000


def new(name: str, *, expires_ms: int | None = None) -> NewSubscription:
    return NewSubscription(f"https://push.example/{name}", "p" * 87, "a" * 22, expires_ms)


@pytest.fixture
def subscriptions(bench: InboxBench) -> Subscriptions:
    return Subscriptions(bench.database, user_max=3)


@pytest.fixture
def endpoints(subscriptions: Subscriptions) -> Callable[[str], list[str]]:
    def of(user: str) -> list[str]:
        return [row.endpoint.rpartition("/")[2] for row in subscriptions.of(user, START_MS)]

    return of


Endpoints = Callable[[str], list[str]]


def test_subscription_is_stored_with_its_keys(subscriptions: Subscriptions) -> None:
    stored = subscriptions.add("7", new("a"), START_MS)
    (row,) = subscriptions.of("7", START_MS)
    assert (row.id, row.user_id, row.endpoint) == (stored.id, "7", "https://push.example/a")
    assert (row.p256dh, row.auth) == ("p" * 87, "a" * 22)
    assert len(stored.key) >= 43
    assert stored.key not in row.key_hash
    assert subscriptions.of("8", START_MS) == []


def test_same_subscription_is_stored_once_and_has_a_new_key(subscriptions: Subscriptions, endpoints: Endpoints) -> None:
    first = subscriptions.add("7", new("a"), START_MS)
    second = subscriptions.add("7", new("a"), START_MS + 1)
    assert (first.id, endpoints("7")) == (second.id, ["a"])
    assert subscriptions.user_of(second.id, second.key) == "7"
    with pytest.raises(Forbidden):
        subscriptions.user_of(first.id, first.key)


def test_another_user_of_the_same_browser_takes_it_over(subscriptions: Subscriptions, endpoints: Endpoints) -> None:
    before = subscriptions.add("7", new("a"), START_MS)
    after = subscriptions.add("8", new("a"), START_MS + 1)
    assert (endpoints("7"), endpoints("8")) == ([], ["a"])
    assert subscriptions.user_of(after.id, after.key) == "8"
    with pytest.raises(Forbidden):
        subscriptions.user_of(before.id, before.key)


def test_beyond_the_bound_those_unused_for_longest_go(subscriptions: Subscriptions, endpoints: Endpoints) -> None:
    for number, name in enumerate("abc"):
        assert subscriptions.add("7", new(name), START_MS + number).dropped == 0
    subscriptions.add("8", new("other"), START_MS)
    subscriptions.add("7", new("a"), START_MS + 10)
    assert subscriptions.add("7", new("d"), START_MS + 11).dropped == 1
    assert endpoints("7") == ["d", "a", "c"]
    assert endpoints("8") == ["other"]


def test_expired_subscriptions_are_not_listed_and_make_room(subscriptions: Subscriptions, endpoints: Endpoints) -> None:
    subscriptions.add("7", new("old", expires_ms=START_MS), START_MS - DAY_MS)
    subscriptions.add("7", new("new", expires_ms=START_MS + 1), START_MS - DAY_MS)
    assert endpoints("7") == ["new"]
    assert [subscriptions.add("7", new(name), START_MS).dropped for name in "ab"] == [0, 0]
    assert sorted(endpoints("7")) == ["a", "b", "new"]


def test_removal_is_of_the_users_own(subscriptions: Subscriptions, endpoints: Endpoints) -> None:
    subscriptions.add("7", new("a"), START_MS)
    assert subscriptions.remove("8", "https://push.example/a") == 0
    assert endpoints("7") == ["a"]
    assert subscriptions.remove("7", "https://push.example/a") == 1
    assert subscriptions.remove("7", "https://push.example/a") == 0
    assert endpoints("7") == []


def test_renewal_needs_the_key_and_keeps_it(subscriptions: Subscriptions, endpoints: Endpoints) -> None:
    mine = subscriptions.add("7", new("a"), START_MS)
    other = subscriptions.add("8", new("b"), START_MS)
    for id_, key in ((mine.id, other.key), (other.id, mine.key), (mine.id, ""), ("0" * 8 + mine.id[8:], mine.key)):
        with pytest.raises(Forbidden):
            subscriptions.renew(id_, key, new("c"), START_MS)
    assert (endpoints("7"), endpoints("8")) == (["a"], ["b"])
    for name in ("c", "d", "d"):
        subscriptions.renew(mine.id, mine.key, new(name), START_MS)
    assert endpoints("7") == ["d"]
    assert subscriptions.user_of(mine.id, mine.key) == "7"


def test_renewal_with_the_endpoint_of_another_subscription_replaces_it(
    subscriptions: Subscriptions, endpoints: Endpoints
) -> None:
    mine = subscriptions.add("7", new("a"), START_MS)
    subscriptions.add("7", new("b"), START_MS)
    subscriptions.renew(mine.id, mine.key, new("b"), START_MS)
    assert endpoints("7") == ["b"]


def test_tabs_that_subscribe_at_once_store_one(subscriptions: Subscriptions, endpoints: Endpoints) -> None:
    with ThreadPoolExecutor(4) as pool:
        stored = list(pool.map(lambda _: subscriptions.add("7", new("a"), START_MS), range(12)))
    assert len({result.id for result in stored}) == 1
    assert endpoints("7") == ["a"]
    valid = []
    for result in stored:
        try:
            valid.append(subscriptions.user_of(result.id, result.key))
        except Forbidden:
            continue
    assert valid == ["7"]


def test_users_who_subscribe_one_browser_at_once_take_turns(bench: InboxBench) -> None:
    users, names = ["u0", "u1", "u2", "u3"], [f"shared{number}" for number in range(20)]
    many = Subscriptions(bench.database, user_max=len(names))

    def subscribe(user: str) -> None:
        for name in names:
            many.add(user, new(name), bench.now_ms)

    with ThreadPoolExecutor(len(users)) as pool:
        list(pool.map(subscribe, users))
    owned = [row.endpoint for user in users for row in many.of(user, START_MS)]
    assert sorted(owned) == sorted(f"https://push.example/{name}" for name in names)
