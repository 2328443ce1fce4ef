"""Random users, marks, pushes and crashes: no seen notification is pushed, none twice, and none is forgotten."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.inbox import InboxBench, notification, open_bench
from tidings_notifications.core.delivery import DueDelivery, Failed, Gone, Outcome, Retry, Sent
from tidings_notifications.core.notification import Category, PushRule
from tidings_notifications.core.push_subscription import NewSubscription
from tidings_notifications.inbox import Inbox
from tidings_notifications.inbox.deliveries import Deliveries
from tidings_notifications.inbox.subscriptions import Subscriptions

LEASE_S = 60
CATEGORIES = {
    "order": Category(web_push=PushRule.UNSEEN, push_after_s=30),
    "chat": Category(web_push=PushRule.ALWAYS),
}
USERS = ["1", "2", "3"]
HOUR_MS = 3_600_000


class World:
    """One run. Some claims never have a result, as if their process had been killed."""

    def __init__(self, bench: InboxBench, random_: random.Random) -> None:
        self.bench = bench
        self.random = random_
        self.deliveries = Deliveries(bench.database, CATEGORIES, method="web_push", lease_s=LEASE_S)
        self.subscriptions = Subscriptions(bench.database)
        self.open: list[DueDelivery] = []
        # Notification and subscription: the time until which a claim may send it.
        self.leases: dict[tuple[str, str], tuple[int, str]] = {}
        self.ended: set[tuple[str, str]] = set()
        self.own = {user: self.add_subscription(user, f"own{user}") for user in USERS}

    def items(self) -> dict[str, dict[str, object]]:
        """What is in the inboxes now."""
        pages = [self.bench.all_items(user, archived=False) for user in USERS]
        return {str(item["id"]): item for page in pages for item in page}

    def step(self) -> None:
        """One random action."""
        actions: list[Callable[[], None]] = [self.notify, self.notify, self.mark, self.claim, self.finish, self.wait]
        self.random.choice([*actions, self.subscribe])()

    def notify(self) -> None:
        user, category = self.random.choice(USERS), self.random.choice([*CATEGORIES])
        self.bench.store(notification(user=user, category=category, group=self.random.choice([None, "g", "h"])))

    def mark(self) -> None:
        items = list(self.items())
        if items:
            action = self.random.choice(["seen", "read", "archive"])
            for user in USERS:
                self.bench.inbox.mark(user, action, self.bench.now_ms, ids=[self.random.choice(items)])

    def subscribe(self) -> None:
        self.add_subscription(self.random.choice(USERS), str(self.random.randrange(6)))

    def add_subscription(self, user: str, name: str) -> str:
        new = NewSubscription(f"https://push.example/{name}", "p", "a")
        return self.subscriptions.add(user, new, self.bench.now_ms).id

    def wait(self) -> None:
        self.bench.now_ms += self.random.choice([1, 10_000, 31_000, 61_000])

    def claim(self) -> None:
        items, now_ms = self.items(), self.bench.now_ms
        for due in self.deliveries.claim(now_ms, self.random.choice([1, 3, 50]))[0]:
            assert due.subscription is not None
            pair, item = (due.notification.id, due.subscription.id), items[due.notification.id]
            assert item["read_at"] is None
            assert item["seen_at"] is None or item["category"] == "chat"
            assert due.subscription in self.subscriptions.of(due.notification.user_id, now_ms)
            assert pair not in self.ended, "it was pushed before"
            assert self.leases.get(pair, (0, ""))[0] <= now_ms, "another process sends it"
            self.leases[pair] = now_ms + LEASE_S * 1000, due.claim
            if self.random.random() < 0.8:
                self.open.append(due)

    def finish(self) -> None:
        """Random outcomes. Those that come too late belong to a claim that has ended, or that another one took over."""
        results: list[tuple[DueDelivery, Outcome]] = []
        for due in self.open:
            pair = due.notification.id, _id(due)
            until_ms, claim = self.leases[pair]
            if claim == due.claim and until_ms <= self.bench.now_ms:
                continue
            outcome = self.outcome_for(due)
            results.append((due, outcome))
            if claim == due.claim:
                self.leases[pair] = 0, ""
                if not isinstance(outcome, Retry):
                    self.ended.add(pair)
        self.open = []
        self.deliveries.finish(results, self.bench.now_ms)

    def outcome_for(self, due: DueDelivery) -> Outcome:
        """A random outcome. The first subscription of a user is never gone."""
        outcomes: list[Outcome] = [Sent(), Sent(), Failed("400"), Retry(None, "503"), Retry(9_000, "429")]
        return self.random.choice(outcomes if _id(due) in self.own.values() else [*outcomes, Gone()])

    def end(self) -> None:
        """All that waits is sent. Then each notification that was not marked was sent to its user's own browser."""
        for _ in range(3):
            self.bench.now_ms += HOUR_MS
            while claimed := self.deliveries.claim(self.bench.now_ms, 50)[0]:
                self.deliveries.finish([(due, Sent()) for due in claimed], self.bench.now_ms)
                self.ended |= {(due.notification.id, _id(due)) for due in claimed}
        assert self.deliveries.oldest_due_ms() is None
        for user in USERS:
            for item in self.bench.all_items(user, archived=False):
                assert item["seen_at"] is not None or (item["id"], self.own[user]) in self.ended, item
        self.bench.check()


def _id(due: DueDelivery) -> str:
    assert due.subscription is not None
    return due.subscription.id


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InboxBench]:
    folder: Path = tmp_path_factory.mktemp("model")
    bench = open_bench(f"sqlite:///{folder}/model.db")
    yield bench
    bench.database.close()


@pytest.mark.parametrize("seed", range(12))
def test_random_deliveries(migrated: InboxBench, seed: int) -> None:
    migrated.clear()
    world = World(InboxBench(migrated.database, Inbox(migrated.database, CATEGORIES)), random.Random(seed))
    for _ in range(120):
        world.step()
    world.end()
