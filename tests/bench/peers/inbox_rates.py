"""Notifications per second of `Inbox.store`, and of a bare INSERT, for the case `inbox`.

    python inbox_rates.py DATABASE_URL SECONDS     prints one line of JSON

Both take turns with batches of 500, each in one transaction, in the same tables. `bare_per_s`: the same notification
rows by one INSERT of SQLAlchemy, as made before. `bare_all_per_s`: also the rows of their events.
"""

from __future__ import annotations

import json
import random
import secrets
import sys
import time
from collections.abc import Callable

import sqlalchemy as sa

from support.inbox import InboxBench, notification, open_bench
from tidings_notifications.core.notification import NewNotification
from tidings_notifications.store.tables import event_table, notification_table

BATCH = 500
USERS = 5_000
ROUNDS = 5
BATCHES_MAX = 250
_BODY = "Your parcel has left our warehouse. It arrives on Friday between eight and twelve."
Rows = list[dict[str, object]]


def batch(chance: random.Random) -> list[NewNotification]:
    """The next notifications: random users, half of them with a group, as a shop sends them."""
    return [
        notification(
            "Your order has shipped",
            user=str(chance.randrange(USERS)),
            body=_BODY,
            url=f"/orders/{number}",
            icon="/static/box.png",
            data=json.dumps({"order": chance.randrange(10**6)}),
            group=f"order:{chance.randrange(10**6)}" if number % 2 else None,
        )
        for number in range(BATCH)
    ]


def rows_of(bench: InboxBench, new: list[NewNotification]) -> tuple[Rows, Rows]:
    """The rows that `store` writes for a batch: notifications and events. The batch is removed again."""
    bench.clear()
    bench.store(*new)
    with bench.database.engine.connect() as connection:
        tables = [
            [dict(row) for row in connection.execute(sa.select(t)).mappings()]
            for t in (notification_table, event_table)
        ]
    bench.clear()
    for row in tables[1]:
        del row["row_no"]
    return tables[0], tables[1]


def insert(bench: InboxBench, notifications: Rows, events: Rows) -> None:
    """Insert rows under new ids, in one transaction."""
    for row in notifications:
        row["id"], row["idempotency_key"] = bench.inbox._next_id(bench.now_ms)[0], _random_key()
    with bench.database.writing() as connection:
        connection.execute(notification_table.insert(), notifications)
        if events:
            connection.execute(event_table.insert(), events)


def _random_key() -> str:
    digits = secrets.token_hex(16)
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def main(url: str, seconds: str) -> None:
    """Measure all rates."""
    bench, chance = open_bench(url), random.Random(1)
    notifications, events = rows_of(bench, batch(chance))
    bench.inbox.store([notification(user=str(number)) for number in range(USERS)], bench.now_ms)
    # As many as the time allows, made before it runs.
    prepared = [batch(chance) for _ in range(BATCHES_MAX)]
    ways: dict[str, Callable[[], object]] = {
        "store_per_s": lambda: bench.store(*prepared.pop()),
        "bare_per_s": lambda: insert(bench, notifications, []),
        "bare_all_per_s": lambda: insert(bench, notifications, events),
    }
    counts, taken_s = dict.fromkeys(ways, 0), dict.fromkeys(ways, 0.0)
    for work in ways.values():
        work()
    for _ in range(ROUNDS):
        for name, work in ways.items():
            began_s = time.monotonic()
            while prepared and time.monotonic() - began_s < float(seconds) / ROUNDS:
                work()
                counts[name] += BATCH
            taken_s[name] += time.monotonic() - began_s
    bench.database.close()
    sys.stdout.write(json.dumps({name: counts[name] / taken_s[name] for name in ways}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
