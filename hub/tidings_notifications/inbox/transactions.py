"""Transactions that hold the locks of their users' inboxes."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import TypeVar

from tidings_notifications.core.counts import InboxCounts
from tidings_notifications.store.database import Connection, Database
from tidings_notifications.store.inbox_rows import add_inboxes, lock_inboxes

Result = TypeVar("Result")
Inboxes = dict[str, InboxCounts]


def write_locked(
    database: Database, users: Collection[str], work: Callable[[Connection, Inboxes], Result], *, create: bool
) -> Result:
    """Run `work` in a transaction that has locked these users' inboxes. Their counts cannot change meanwhile.

    `create`: users without an inbox get one first. Otherwise they are missing.

    Raises:
        TidingsError: see `Database.write`.
    """

    def locked(connection: Connection) -> tuple[set[str], list[Result]]:
        inboxes = lock_inboxes(connection, users)
        missing = set(users) - inboxes.keys() if create else set()
        return missing, [] if missing else [work(connection, inboxes)]

    missing, results = database.write(locked)
    while missing:
        # Inboxes are never removed, so this happens once for each user.
        database.write(partial(add_inboxes, users=missing))
        missing, results = database.write(locked)
    return results[0]
