"""Inboxes on every database while threads compete, processes die, and the database fails."""

from __future__ import annotations

import os
import random
import secrets
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from support.inbox import CATEGORIES, InboxBench, empty_database, notification, open_bench
from support.processes.database import Database, Sqlite
from tidings.errors import BadConfig, Unavailable
from tidings_notifications.core.notification import Stored
from tidings_notifications.inbox import Inbox
from tidings_notifications.store import schema
from tidings_notifications.store.database import Database as InboxDatabase
from tidings_notifications.store.inbox_rows import lock_inboxes

ROOT = Path(__file__).parents[3]
KILLED = ROOT / "tests/support/programs/inbox_killed.py"
# More than any change has.
STATEMENTS_MAX = 40


def test_threads_and_connections_of_one_inbox_never_lose_a_change(bench: InboxBench) -> None:
    """Each batch has users in another order: locks in the order of the batch would wait for each other."""
    users = [f"u{number}" for number in range(6)]
    other = Inbox(bench.database, CATEGORIES)
    stored = []

    def work(seed: int) -> None:
        chance = random.Random(seed)
        inbox = chance.choice([bench.inbox, other])
        for step in range(12):
            batch = [
                notification(user=user, group=chance.choice([None, "g"]), caller_id=f"{chance.randrange(40)}")
                for user in chance.sample(users, 4)
            ]
            stored.extend(inbox.store(batch, bench.now_ms + step))
            user = chance.choice(users)
            ids = [str(item["id"]) for item in bench.page(user, limit=5).items]
            if ids:
                inbox.mark(user, chance.choice(["seen", "read", "unread", "archive", "unarchive"]), 1, ids=ids)
            inbox.mark_all(chance.choice(users), chance.choice(["seen", "read"]), bench.now_ms)
            inbox.delete(chance.choice(users), bench.now_ms, group="g")

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    assert sum(isinstance(result, Stored) for result in stored) == 6 * 12 * 4
    new = [result for result in stored if isinstance(result, Stored) and not result.duplicate]
    assert len(new) == sum(len(bench.rows(user)) for user in users)
    bench.check()


def test_process_that_is_stopped_within_a_transaction_does_not_keep_its_locks(
    database_of: Callable[[str], Database],
) -> None:
    bench = open_bench(empty_database(database_of("postgresql")))
    bench.store(notification("first"))
    stopped = InboxDatabase(bench.database.url, lock_max_s=1)
    attempts = []

    def work(connection: sa.Connection) -> str:
        attempts.append(lock_inboxes(connection, {"7"})["7"].unseen)
        if len(attempts) == 1:
            # Another process is at work while this one does nothing.
            with ThreadPoolExecutor(1) as pool:
                waiting = pool.submit(bench.store, notification("second"))
                try:
                    waiting.result(timeout=20)
                except TimeoutError:
                    # So that the other one can end.
                    connection.invalidate()
                    raise
        connection.execute(sa.select(1))
        return "done"

    try:
        assert stopped.write(work) == "done"
        assert attempts == [1, 2]
        bench.check()
    finally:
        stopped.close()
        bench.database.close()


def test_transaction_waits_for_a_lock_for_a_limited_time_unless_it_migrates(
    database_of: Callable[[str], Database],
) -> None:
    """The other transactions of a stopped process get the lock one after the other, and it ends none of them."""
    bench = open_bench(empty_database(database_of("postgresql")))
    bench.store(notification("first"))
    limited = InboxDatabase(bench.database.url, lock_max_s=1)
    holder = sa.create_engine(bench.database.url, poolclass=sa.NullPool)

    def lock() -> str:
        with limited.engine.connect() as connection, pytest.raises(sa.exc.OperationalError) as raised:
            lock_inboxes(connection, {"7"})
        return str(getattr(raised.value.orig, "sqlstate", ""))

    try:
        with ThreadPoolExecutor(2) as pool, holder.connect() as connection:
            lock_inboxes(connection, {"7"})
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(schema._LOCK_NO)))
            waiting, migrating = pool.submit(lock), pool.submit(schema.migrate, limited)
            try:
                assert waiting.result(timeout=20) == "55P03"
                with pytest.raises(TimeoutError):
                    migrating.result(timeout=1.5)
            finally:
                connection.rollback()
            migrating.result(timeout=20)
        bench.store(notification("second"))
    finally:
        limited.close()
        bench.database.close()


def test_one_of_many_threads_stores_an_id(bench: InboxBench) -> None:
    gate = threading.Barrier(6)

    def work(_: int) -> list[object]:
        gate.wait(20)
        return list(bench.store(*(notification(caller_id=f"{number}", user=f"v{number}") for number in range(5))))

    with ThreadPoolExecutor(6) as pool:
        results = [result for batch in pool.map(work, range(6)) for result in batch]
    assert sum(isinstance(result, Stored) and not result.duplicate for result in results) == 5
    bench.check()


def test_sweeps_at_the_same_time_deliver_a_digest_once(bench: InboxBench) -> None:
    bench.store(*(notification(user=f"w{number}", category="comment") for number in range(40)))
    with ThreadPoolExecutor(4) as pool:
        counts = list(pool.map(lambda _: bench.inbox.sweep(bench.now_ms + 60_000), range(4)))
    assert sum(count.delivered for count in counts) == 40
    bench.check()


@pytest.mark.parametrize("change", ["store", "sweep"])
def test_process_that_dies_between_two_statements_leaves_all_or_nothing(
    bench: InboxBench, filled: InboxBench, change: str
) -> None:
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(str(ROOT / name) for name in ("hub", "adapters", "tests"))
    }
    url = bench.database.url
    for statements in range(STATEMENTS_MAX):
        filled.clear()
        bench.store(
            notification("old", group="g", caller_id="old"),
            notification("digest", category="comment"),
            notification("ends", expires_ms=bench.now_ms + 1000),
            notification("other", user="8", group="g"),
        )
        before = [bench.events(user) for user in ("7", "8", "new")]
        program = [sys.executable, str(KILLED), url, change, str(statements)]
        code = subprocess.run(program, env=environment, timeout=60, check=False, stdout=subprocess.DEVNULL).returncode
        bench.check()
        after = [bench.events(user) for user in ("7", "8", "new")]
        if code == 0:
            assert after != before
            assert statements >= 4, "it had several statements"
            return
        assert code == -signal.SIGKILL
        if after != before:
            # It died after a commit: before the next transaction of the same change, or, where the statement that
            # writes a small batch commits by itself, before its answer.
            assert change == "sweep" or bench.database.is_postgresql, "a change is one transaction"
    pytest.fail("the process was always killed")


def test_database_that_restarts_is_used_again(own_server: Database, own_bench: InboxBench) -> None:
    own_bench.store(notification("before"))
    own_server.kill()
    with pytest.raises(Unavailable):
        own_bench.store(notification("lost"))
    own_server.start()
    own_bench.store(notification("after"))
    assert own_bench.titles() == ["after", "before"]
    own_bench.check()


def test_full_database_stores_nothing_and_works_again_when_there_is_room() -> None:
    server = Sqlite()
    bench = open_bench(f"sqlite:///{server.folder}/full.db")
    try:
        bench.store(notification("before"))
        limit = _limit_pages(bench.database, room=2)
        with pytest.raises(Unavailable, match="full"):
            bench.store(*(notification("x" * 200, body="y" * 2000) for _ in range(50)))
        bench.check()
        assert bench.titles() == ["before"]
        limit(1_000_000)
        bench.store(notification("after"))
        assert bench.titles() == ["after", "before"]
        bench.check()
    finally:
        bench.database.close()
        server.stop()


def _limit_pages(database: InboxDatabase, *, room: int) -> Callable[[int], None]:
    """Let the file grow by no more than `room` pages. Returns what sets another limit."""
    pages = [0]

    def apply(connection: sqlite3.Connection, *_: object) -> None:
        if pages[0]:
            connection.execute(f"PRAGMA max_page_count = {pages[0]}")

    def limit(count: int) -> None:
        pages[0] = count
        database.engine.dispose()

    sa.event.listen(database.engine, "connect", apply)
    with database.engine.connect() as connection:
        limit(int(connection.exec_driver_sql("PRAGMA page_count").scalar_one()) + room)
    return limit


def test_locked_file_is_unavailable_not_a_wait_for_ever(database_of: Callable[[str], Database]) -> None:
    bench = open_bench(empty_database(database_of("sqlite")) + "?timeout=0.2")
    path = bench.database.engine.url.database
    assert path is not None
    with sqlite3.connect(path, isolation_level=None) as writer:
        writer.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="locked"):
            bench.store(notification())
        assert bench.titles() == [], "readers do not wait for the writer"
        writer.execute("ROLLBACK")
    writer.close()
    bench.store(notification("later"))
    assert bench.titles() == ["later"]
    bench.database.close()


def test_rows_for_a_deleted_sqlite_file_are_refused_and_a_restored_one_is_used(tmp_path: Path) -> None:
    """SQLite goes on writing to a deleted file, and what it has accepted ends with the process."""
    path, backup = tmp_path / "inboxes.db", tmp_path / "backup.db"
    bench = open_bench(f"sqlite:///{path}")
    bench.store(notification("first"))
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(backup)) as target:
        source.backup(target)
    for file in tmp_path.glob("inboxes.db*"):
        file.unlink()
    for write in (bench.inbox.check_write, lambda: bench.store(notification("lost"))):
        with pytest.raises(Unavailable, match="was deleted"):
            write()
    backup.rename(path)
    bench.store(notification("restored"))
    bench.database.close()
    again = open_bench(f"sqlite:///{path}")
    assert again.titles() == ["restored", "first"]
    again.database.close()


def test_sqlite_file_is_private_and_bad_urls_are_refused(tmp_path: Path) -> None:
    database = InboxDatabase(f"sqlite:///{tmp_path}/new.db")
    assert (tmp_path / "new.db").stat().st_mode & 0o777 == 0o600
    database.close()
    for url in ("sqlite://", "sqlite:///:memory:", f"sqlite:///{tmp_path}/{secrets.token_hex(4)}/x.db", "oracle://x"):
        with pytest.raises(BadConfig):
            InboxDatabase(url)
