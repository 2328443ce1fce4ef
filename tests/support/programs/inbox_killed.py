"""Changes an inbox and kills itself after one statement: `python inbox_killed.py URL CHANGE STATEMENTS`.

If it survives, because the change has fewer statements, it prints the results and exits with 0.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import sqlalchemy as sa

from support.inbox import CATEGORIES, START_MS, notification
from support.statements import observed_statements
from tidings_notifications.inbox import Inbox
from tidings_notifications.store.database import Database


def change(inbox: Inbox, kind: str) -> object:
    """The change whose process is killed."""
    now_ms = START_MS + 60_000
    match kind:
        case "store":
            users = ("7", "8", "new")
            batch = [
                notification(f"{user} {number}", user=user, group="g", caller_id=f"k{number}")
                for user in users
                for number in range(3)
            ]
            return inbox.store(batch, now_ms)
        case "read":
            return inbox.mark_all("7", "read", now_ms)
        case "delete":
            return inbox.delete("7", now_ms, group="g")
        case _:
            return inbox.sweep(now_ms)


if __name__ == "__main__":
    database = Database(sys.argv[1])
    remaining = int(sys.argv[3])

    def count(*_arguments: Any) -> None:
        global remaining  # noqa: PLW0603 - one number of one program
        remaining -= 1
        if remaining < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    # After each statement, and before each commit: the statement after which nothing is left to do but to commit.
    sa.event.listen(database.engine, "commit", count)
    with observed_statements(database.engine, after=count):
        print(change(Inbox(database, CATEGORIES), sys.argv[2]))  # noqa: T201 - a program
