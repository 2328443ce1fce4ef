"""The cases `inbox` and `inbox-latency`.

`inbox`: notifications per second into SQLite and PostgreSQL, in batches. `inbox-latency`: from `notify` and from `emit`
to the client, at the same rate and in turns.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from statistics import fmean

from bench import machine
from bench.case import Column, Row
from bench.generator import Generator, Outcome
from bench.ingress_hub import DurablePostgresql
from bench.systems import Rig, System, Tidings
from support.processes.database import Database, Sqlite
from tidings_notifications.store.database import Database as Store
from tidings_notifications.store.schema import migrate

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
def _running(kind: type[Database]) -> Iterator[Database]:
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


_DEADLINE_S = 60.0
_SEED = 20261201

INBOX_LATENCY = (
    Column("emit_p50_ms", "emit p50 ms", 2),
    Column("emit_p99_ms", "emit p99 ms", 2),
    Column("notify_p50_ms", "notify p50 ms", 2),
    Column("notify_p99_ms", "notify p99 ms", 2),
    Column("p50_ratio", "notify / emit, p50", 1),
    Column("service_ms", "service CPU ms/notification", 2),
)


class NotifyHub(Tidings):
    """A hub, and a notification service on PostgreSQL, all on the core of the server."""

    settings = '[notifications]\nurl = "http://127.0.0.1:{port}"\n[notifications.categories.order]\n'

    def __init__(self, rig: Rig, database_url: str) -> None:
        super().__init__(rig)
        self._service_port = machine.free_port()
        self.settings = self.settings.format(port=self._service_port)
        self._database_url = database_url
        self.service_pid = 0

    def start(self) -> None:
        super().start()
        config = ["--config", str(self.rig.folder / "tidings.toml"), "--to", self.rig.redis_url]
        database = ["--database", self._database_url]
        store = Store(self._database_url)
        migrate(store)
        store.close()
        listen = ["--listen", f"127.0.0.1:{self._service_port}"]
        service = self._spawn(*self.command, "notifications", *config, *database, *listen, core=machine.SERVER_CORE)
        assert service.stdout is not None
        if not service.stdout.readline():
            raise machine.BenchError("the notification service did not start")
        self.service_pid = service.pid


@dataclass(frozen=True, slots=True)
class InboxLatency:
    """One round: `emit` and `notify` take turns, `turns` times each, to one of `users` clients at random."""

    users: int = 50
    rate_per_s: int = 200
    turn_s: float = 4.0
    turns: int = 3

    def __call__(self, system: System, *, quick: bool) -> Row:
        with _hub(system.rig) as hub, hub.clients(self.users, [["bench:all"]]) as clients:
            clients.connect()
            hub.settle()
            return self._measure(hub, clients, quick=quick)

    def _measure(self, hub: NotifyHub, clients: Generator, *, quick: bool) -> Row:
        count = int(self.rate_per_s * (self.turn_s / 8 if quick else self.turn_s))
        meter = _Meter(clients, self.users, self.rate_per_s)
        outcomes: dict[str, list[Outcome]] = {"emit": [], "notify": []}
        service_s = 0.0
        with ExitStack() as stack:
            emitters = {kind: stack.enter_context(_emitter(kind, hub)) for kind in outcomes}
            # Opens connections and creates inboxes.
            for emitter in emitters.values():
                meter.send(emitter, max(20, count // 4))
            for _ in range(1 if quick else self.turns):
                for kind, emitter in emitters.items():
                    before_s = machine.cpu_s(hub.service_pid)
                    outcomes[kind].append(meter.send(emitter, count))
                    service_s += machine.cpu_s(hub.service_pid) - before_s if kind == "notify" else 0.0
        row: Row = {}
        for kind, results in outcomes.items():
            row[f"{kind}_p50_ms"] = fmean(result.latency_us.p50 for result in results) / 1e3
            row[f"{kind}_p99_ms"] = fmean(result.latency_us.p99 for result in results) / 1e3
        row["p50_ratio"] = row["notify_p50_ms"] / row["emit_p50_ms"]
        return row | {"service_ms": service_s * 1e3 / (count * len(outcomes["notify"]))}


@dataclass(slots=True)
class _Meter:
    """Sends to random users. The numbers of what is sent rise over all turns."""

    clients: Generator
    users: int
    rate_per_s: int
    _next: int = field(default=1, init=False)
    _chance: random.Random = field(default_factory=lambda: random.Random(_SEED), init=False)

    def send(self, emitter: subprocess.Popen[str], count: int) -> Outcome:
        """Let an emitter send, and wait until everything has arrived.

        Raises:
            machine.BenchError: something was lost, repeated or out of order.
        """
        self.clients.count(count, deadline_s=_DEADLINE_S)
        channels = [f"user:u{index}" for index in range(self.users)]
        order = [self._chance.randrange(self.users) for _ in range(count)]
        job = {"channels": channels, "order": order, "first": self._next, "rate": self.rate_per_s}
        machine.send_line(emitter, json.dumps(job))
        self._next += count
        outcome = self.clients.outcome()
        machine.read_reply(emitter)
        if outcome.deliveries != count or outcome.disorder:
            raise machine.BenchError(f"{outcome.deliveries} of {count} arrived, {outcome.disorder} out of order")
        return outcome


@contextmanager
def _emitter(kind: str, hub: NotifyHub) -> Iterator[subprocess.Popen[str]]:
    library = {"emit": "tidings", "notify": "notify"}[kind]
    command = [sys.executable, str(machine.HERE / "peers" / "emit_ways.py"), library]
    process = machine.spawn([*command, json.dumps({"url": hub.rig.redis_url})], core=machine.LOAD_CORE, log=hub.log)
    try:
        machine.read_reply(process)
        yield process
    finally:
        machine.stop(process)


@contextmanager
def _hub(rig: Rig) -> Iterator[NotifyHub]:
    with ExitStack() as stack:
        with machine.on_core(machine.SERVER_CORE):
            database = stack.enter_context(_running(DurablePostgresql))
        yield stack.enter_context(NotifyHub(rig, database.url))
