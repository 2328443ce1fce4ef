"""Latency and throughput of each publishing API, against one node: `make bench-ways`.

Writes a table into docs/backends.md. There is one WebSocket client. The latency of each API is measured from the call
to the client, at a steady rate. The throughput is measured under full load, from the first call until the client has
received everything.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bench import machine
from bench.generator import Generator, Outcome
from bench.ingress_hub import IngressHub, Servers, open_servers
from bench.rig import open_rig
from bench.systems import Rig
from support.signals import raise_on_stop_signals

PAGE = Path(__file__).resolve().parents[2] / "docs" / "backends.md"
CHANNEL = "bench:all"
BATCH = 100
PACE_PER_S = 50
_DEADLINE_S = 60.0
_BEGIN, _END = "<!-- ways: written by `make bench-ways`, do not edit -->\n", "<!-- ways: end -->"
_TEXT = f"""
Latency is measured from the call to the client, at {PACE_PER_S} publications per second. The rates are measured under
full load, from the first call until the client has received everything. The slowest part limits the rate: the backend,
the queue, the relay or the node.

Measured on {{date}}, one run, {{processor}}. The node has one core. The emitter, Redis, RabbitMQ,
PostgreSQL, the relay and the one WebSocket client share another core. Each publication has 200 bytes of JSON, all in
one channel. RabbitMQ confirms and PostgreSQL commits when the data is on disk. A batch of the outbox is one
transaction. The Redis list is in the hub's Redis.
"""


@dataclass(frozen=True, slots=True)
class PublishingApi:
    """One publishing API. `kind` is as in `IngressHub.emitter`; `guarantee` holds after a call has returned."""

    kind: str
    name: str
    guarantee: str
    batches: bool = False


PUBLISHING_APIS = (
    PublishingApi("redis", '`Emitter("redis://…")`', "numbered, stored, published", batches=True),
    PublishingApi("http", '`Emitter("http://…")`', "numbered, stored, published", batches=True),
    PublishingApi("rabbit", '`Emitter("amqp://…")`', "RabbitMQ has it on disk", batches=True),
    PublishingApi("list", '`Emitter("kombu+redis://…")`', "Redis has stored it in a list", batches=True),
    PublishingApi("outbox", "`Outbox`, PostgreSQL, `tidings outbox`", "committed with your own change", batches=True),
    PublishingApi("pusher", "Pusher's library for Python", "numbered, stored, published"),
    PublishingApi("manager", "python-socketio's write-only manager", "nothing: at most once"),
    PublishingApi("npm", "`@socket.io/redis-emitter`", "nothing: at most once"),
)


@dataclass(frozen=True, slots=True)
class Lengths:
    """Seconds of the two measurements of each API, and the number of publications that estimate its rate."""

    paced_s: float = 5.0
    flat_s: float = 3.0
    first: int = 200


@dataclass(frozen=True, slots=True)
class Cost:
    """The figures of one API; `batch_per_s` is None if it has no batches."""

    api: PublishingApi
    p50_ms: float
    p99_ms: float
    one_per_s: float
    batch_per_s: float | None


@dataclass(slots=True)
class Meter:
    """Measures APIs with one client of a node. The numbers of the publications rise over all measurements."""

    clients: Generator
    lengths: Lengths
    _next: int = field(default=1, init=False)

    def cost(self, api: PublishingApi, emitter: subprocess.Popen[str]) -> Cost:
        """Measure one API.

        Raises:
            machine.BenchError: a publication was lost, duplicated or out of order.
        """
        lengths = self.lengths
        # Warm up: open connections, and load and specialize the code.
        self._send(emitter, BATCH // 5)
        paced = self._send(emitter, max(10, int(PACE_PER_S * lengths.paced_s)), rate_per_s=PACE_PER_S).latency_us
        one_per_s = self._full_load_rate(emitter, 1)
        batch_per_s = self._full_load_rate(emitter, BATCH) if api.batches else None
        return Cost(api, paced.p50 / 1e3, paced.p99 / 1e3, one_per_s, batch_per_s)

    def _full_load_rate(self, emitter: subprocess.Popen[str], batch: int) -> float:
        estimate = self._send(emitter, self.lengths.first, batch=batch)
        goal = estimate.deliveries / estimate.elapsed_s * self.lengths.flat_s
        count = max(1, round(goal / batch)) * batch
        outcome = self._send(emitter, count, batch=batch)
        return outcome.deliveries / outcome.elapsed_s

    def _send(self, emitter: subprocess.Popen[str], count: int, *, rate_per_s: int = 0, batch: int = 1) -> Outcome:
        self.clients.count(count, deadline_s=_DEADLINE_S)
        job = {"channels": [CHANNEL], "order": [0] * count, "first": self._next, "rate": rate_per_s}
        machine.send_line(emitter, json.dumps(job | {"batch": batch if batch > 1 else 0}))
        self._next += count
        outcome = self.clients.outcome()
        machine.read_reply(emitter)
        if outcome.deliveries != count or outcome.disorder:
            raise machine.BenchError(f"{outcome.deliveries} of {count} arrived, {outcome.disorder} out of order")
        return outcome


def measure(rig: Rig, servers: Servers, lengths: Lengths, apis: Sequence[PublishingApi]) -> Iterator[Cost]:
    """Measure one API after the other, against one node.

    Raises:
        machine.BenchError: see `Meter.cost`; or the node did not start.
    """
    with IngressHub(rig, servers) as hub, hub.clients(1, [[CHANNEL]]) as clients:
        clients.connect()
        hub.settle()
        meter = Meter(clients, lengths)
        for api in apis:
            with hub.emitter(api.kind) as emitter:
                try:
                    yield meter.cost(api, emitter)
                except machine.BenchError as error:
                    raise machine.BenchError(f"{api.kind}: {error}") from error


def table(costs: Sequence[Cost]) -> str:
    """The table, with a row for each API."""
    lines = [
        "| publishing API | a call that returned means | p50 ms | p99 ms | single publications/s | in batches |\n",
        "|---|---|---|---|---|---|\n",
    ]
    for cost in costs:
        batch = "-" if cost.batch_per_s is None else _rounded(cost.batch_per_s)
        figures = f"{cost.p50_ms:.1f} | {cost.p99_ms:.1f} | {_rounded(cost.one_per_s)} | {batch}"
        lines.append(f"| {cost.api.name} | {cost.api.guarantee} | {figures} |\n")
    return "".join(lines)


def _rounded(per_s: float) -> str:
    """Round to two digits, the precision of a single run."""
    return f"{float(f'{per_s:.2g}'):,.0f}"


def put(page: str, costs: Sequence[Cost], *, date: str, processor: str) -> str:
    """Return the page with this table between its two marks.

    Raises:
        machine.BenchError: the page does not have both marks exactly once.
    """
    text = table(costs) + _TEXT.format(date=date, processor=processor)
    pattern = re.escape(_BEGIN) + ".*?" + re.escape(_END)
    updated, times = re.subn(pattern, lambda _: f"{_BEGIN}\n{text}\n{_END}", page, flags=re.DOTALL)
    if times != 1:
        raise machine.BenchError(f"the page has {times} places between {_BEGIN.strip()} and {_END}")
    return updated


def main() -> int:
    """Measure all APIs and write the page; with `--way`, measure one API and print its row."""
    parser = argparse.ArgumentParser(prog="bench.ways", description="latency and throughput of each publishing API")
    parser.add_argument("--way", default="", help=f"one of: {', '.join(api.kind for api in PUBLISHING_APIS)}")
    parser.add_argument("--page", type=Path, default=PAGE, help="the Markdown page with the marks for the table")
    options = parser.parse_args()
    chosen = [api for api in PUBLISHING_APIS if options.way in ("", api.kind)]
    if len(os.sched_getaffinity(0)) > 1:
        os.sched_setaffinity(0, {machine.LOAD_CORE})
    date, began_s = time.strftime("%Y-%m-%d", time.gmtime()), time.monotonic()
    costs = []
    try:
        with open_rig() as rig, open_servers() as servers:
            for cost in measure(rig, servers, Lengths(), chosen):
                sys.stderr.write(table([cost]).splitlines()[-1] + "\n")
                costs.append(cost)
    except (machine.BenchError, pytest.skip.Exception, pytest.fail.Exception) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if options.way:
        sys.stdout.write(table(costs))
    else:
        page = options.page.read_text(encoding="utf-8")
        options.page.write_text(
            put(page, costs, date=date, processor=machine.describe()["processor"]), encoding="utf-8"
        )
    sys.stderr.write(f"{time.monotonic() - began_s:.0f} s\n")
    return 0


if __name__ == "__main__":
    raise_on_stop_signals()
    sys.exit(main())
