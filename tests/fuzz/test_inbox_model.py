"""Random changes of inboxes, compared with a model that has no database, and with a client that applies the events."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from support.inbox import CATEGORIES, DAY_MS, START_MS, InboxBench, empty_database, notification, open_bench
from support.processes.database import KINDS, Database
from tidings_notifications.core.notification import State, Stored

STEPS = {"sqlite": 500, "postgresql": 150, "mariadb": 150}
USERS = ("7", "8")
ID_MS, KEEP_MS, DIGEST_MS = 7 * DAY_MS, 90 * DAY_MS, 60_000


@dataclass(eq=False)
class Item:
    title: str
    category: str
    group: str | None
    caller_id: str
    created_ms: int
    expires_ms: int | None
    due_ms: int | None = None
    count: int = 1
    seen: bool = False
    read: bool = False
    archived: bool = False


@dataclass
class User:
    # In the order of the inbox, oldest first. Digests that collect are separate.
    items: list[Item] = field(default_factory=list)
    collecting: list[Item] = field(default_factory=list)
    ids: dict[str, int] = field(default_factory=dict)
    off: set[str] = field(default_factory=set)

    def store(self, item: Item, now_ms: int) -> tuple[State, bool]:
        if now_ms - self.ids.get(item.caller_id, -ID_MS) < ID_MS:
            return State.STORED, True
        if item.category in self.off:
            return State.SUPPRESSED, False
        if item.expires_ms is not None and item.expires_ms <= now_ms:
            return State.EXPIRED, False
        self.ids[item.caller_id] = now_ms
        if CATEGORIES[item.category].digest_s:
            self._collect(item, now_ms)
        else:
            if item.group is not None:
                self.items = [other for other in self.items if not self._is_replaced(other, item)]
            self.items.append(item)
        return State.STORED, False

    def _is_replaced(self, other: Item, item: Item) -> bool:
        is_digest = CATEGORIES[other.category].digest_s > 0
        return other.group == item.group and not other.read and not other.archived and not is_digest

    def _collect(self, item: Item, now_ms: int) -> None:
        item.due_ms = now_ms + DIGEST_MS
        for other in self.collecting:
            if (other.category, other.group) == (item.category, item.group):
                item.count, item.due_ms = other.count + 1, other.due_ms
                ends_ms = (item.expires_ms, other.expires_ms)
                item.expires_ms = None if None in ends_ms else max(end_ms for end_ms in ends_ms if end_ms is not None)
                self.collecting.remove(other)
                break
        self.collecting.append(item)

    def sweep(self, now_ms: int) -> None:
        self.items = [item for item in self.items if not is_over(item, now_ms)]
        self.collecting = [item for item in self.collecting if not is_over(item, now_ms)]
        due = [item for item in self.collecting if item.due_ms is not None and item.due_ms <= now_ms]
        for item in due:
            self.collecting.remove(item)
            if item.category not in self.off:
                # A delivered digest is new: also its id counts from then on.
                item.created_ms = self.ids[item.caller_id] = now_ms
                self.items.append(item)

    def mark(self, items: list[Item], action: str) -> None:
        for item in items:
            match action:
                case "seen":
                    item.seen = True
                case "read":
                    item.seen = item.read = True
                case "unread":
                    item.read = False
                case "archive" | "unarchive":
                    item.archived = action == "archive"

    def listed(self, *, archived: bool) -> list[tuple[str, int, bool, bool]]:
        return [
            (item.title, item.count, item.seen, item.read) for item in reversed(self.items) if item.archived == archived
        ]

    def counts(self) -> dict[str, int]:
        inbox = [item for item in self.items if not item.archived]
        return {"unseen": sum(not item.seen for item in inbox), "unread": sum(not item.read for item in inbox)}


def is_over(item: Item, now_ms: int) -> bool:
    return item.created_ms <= now_ms - KEEP_MS or (item.expires_ms is not None and item.expires_ms <= now_ms)


class Model:
    """Applies each random change to the inboxes and to the model."""

    def __init__(self, bench: InboxBench, chance: random.Random) -> None:
        self.bench, self.chance = bench, chance
        self.users = {user: User() for user in USERS}
        self.titles = 0

    def step(self) -> None:
        changes = [self.store] * 5 + [self.mark] * 4 + [self.mark_all, self.delete, self.prefer, self.wait]
        self.chance.choice(changes)()
        self.compare()

    def store(self) -> None:
        batch, expected = [], []
        for _ in range(self.chance.randint(1, 4)):
            self.titles += 1
            user, caller_id = self.chance.choice(USERS), f"c{self.chance.randrange(60)}"
            group = self.chance.choice([None, None, "a", "A"])
            ends_ms = self.chance.choice([None, None, self.bench.now_ms + self.chance.choice([0, 40_000, DAY_MS])])
            category = self.chance.choice(list(CATEGORIES))
            item = Item(str(self.titles), category, group, caller_id, self.bench.now_ms, ends_ms)
            new = notification(
                item.title, user=user, category=item.category, group=group, caller_id=caller_id, expires_ms=ends_ms
            )
            batch.append(new)
            expected.append(Stored(caller_id, *self.users[user].store(item, self.bench.now_ms)))
        assert self.bench.store(*batch) == expected

    def mark(self) -> None:
        name, user = self._user()
        action = self.chance.choice(["seen", "read", "unread", "archive", "unarchive"])
        items = self.chance.sample(user.items, min(len(user.items), 3))
        if items:
            ids = self.bench.ids(*(item.title for item in items), user=name)
            self.bench.inbox.mark(name, action, self.bench.now_ms, ids=ids)
            user.mark(items, action)

    def mark_all(self) -> None:
        name, user = self._user()
        action = self.chance.choice(["seen", "read", "archive"])
        inbox = [item for item in user.items if not item.archived]
        first = self.chance.randrange(len(inbox)) if inbox and self.chance.random() < 0.5 else None
        before = None if first is None else self.bench.ids(inbox[first].title, user=name)[0]
        self.bench.inbox.mark_all(name, action, self.bench.now_ms, before=before)
        user.mark(inbox if first is None else inbox[: first + 1], action)

    def delete(self) -> None:
        name, user = self._user()
        if user.items and self.chance.random() < 0.7:
            item = self.chance.choice(user.items)
            self.bench.inbox.delete(name, self.bench.now_ms, ids=self.bench.ids(item.title, user=name))
            user.items.remove(item)
        else:
            self.bench.inbox.delete(name, self.bench.now_ms, group="a")
            user.items = [item for item in user.items if item.group != "a"]
            user.collecting = [item for item in user.collecting if item.group != "a"]

    def prefer(self) -> None:
        name, user = self._user()
        category, enabled = self.chance.choice(["order", "comment"]), self.chance.random() < 0.6
        self.bench.inbox.set_preference(name, category, "in_app", enabled)
        user.off = user.off - {category} if enabled else user.off | {category}

    def wait(self) -> None:
        self.bench.now_ms += self.chance.choice([1, 20_000, 20_000, 60_000, DAY_MS, 8 * DAY_MS, 91 * DAY_MS])
        self.bench.inbox.sweep(self.bench.now_ms)
        for user in self.users.values():
            user.sweep(self.bench.now_ms)

    def compare(self) -> None:
        for name, user in self.users.items():
            assert self.bench.page(name).counts == user.counts(), name
            for archived in (False, True):
                items = self.bench.all_items(name, archived=archived)
                listed = [
                    (item["title"], item["count"], item["seen_at"] is not None, item["read_at"] is not None)
                    for item in items
                ]
                assert sorted(listed) == sorted(user.listed(archived=archived)), name
        self.bench.check()

    def _user(self) -> tuple[str, User]:
        name = self.chance.choice(USERS)
        return name, self.users[name]


@pytest.mark.parametrize("kind", KINDS)
def test_random_changes_agree_with_the_model(kind: str, database_of: Callable[[str], Database]) -> None:
    seed = int(os.environ.get("SEED") or int.from_bytes(os.urandom(3), "big"))
    bench = open_bench(empty_database(database_of(kind)))
    bench.now_ms = START_MS
    model = Model(bench, random.Random(seed))
    try:
        for step in range(STEPS[kind]):
            try:
                model.step()
            except BaseException as error:
                error.add_note(f"SEED={seed}, step {step}")
                raise
    finally:
        bench.database.close()
