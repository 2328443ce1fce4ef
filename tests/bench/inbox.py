"""The case `inbox`: notifications per second into SQLite and PostgreSQL, in batches."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench import machine
from bench.case import Column, Row
from bench.systems import System
from support.processes.database import Postgresql, Sqlite

INBOX = tuple(
    Column(f"{kind}_{name}", f"{heading} ({kind})", digits)
    for kind in ("sqlite", "postgresql")
    for name, heading, digits in (
        ("store_per_s", "stored/s", 0),
        ("bare_per_s", "bare INSERT/s", 0),
        ("bare_all_per_s", "bare INSERT/s with events", 0),
        ("ratio", "stored / bare with events", 2),
    )
)


class DurablePostgresql(Postgresql):
    """As in production: a commit waits for the disk."""

    fsync = "on"


@dataclass(frozen=True, slots=True)
class InboxStore:
    """One process that stores batches, on the core of the load. PostgreSQL runs where the system puts it."""

    each_s: float = 10.0

    def __call__(self, system: System, *, quick: bool) -> Row:
        row: Row = {}
        for kind in (Sqlite, DurablePostgresql):
            with _running(kind) as database:
                rates = _rates(system, database.url, self.each_s / 10 if quick else self.each_s)
            row |= {f"{database.kind}_{name}": rate for name, rate in rates.items()}
            row[f"{database.kind}_ratio"] = rates["store_per_s"] / rates["bare_all_per_s"]
        return row


@contextmanager
def _running(kind: type[Sqlite | DurablePostgresql]) -> Iterator[Sqlite | DurablePostgresql]:
    database = kind()
    try:
        database.start()
        yield database
    finally:
        database.stop()


def _rates(system: System, url: str, each_s: float) -> Row:
    script = [sys.executable, str(machine.HERE / "peers" / "inbox_rates.py")]
    process = machine.spawn([*script, url, str(each_s)], core=machine.LOAD_CORE, log=system.log)
    try:
        rates: Row = machine.read_reply(process)
    finally:
        machine.stop(process)
    return rates
