"""What each way in costs, in one run against one node: `make bench-ways`, which writes a table into docs/backends.md.

One WebSocket client. For each way: latency from the call to the client at a steady pace, and publications a second
flat out, from the first call until the client has all.
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
from bench.inlets import Inlets, Servers, open_servers
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
Latency is from the call to the client, at {PACE_PER_S} publications a second. The rates are flat out, from the first
call until the client has all: the slowest part counts, be it the backend, the queue, the relay or the node.
{{when}}, one run, {{processor}}: the node has one core; the emitter, Redis, RabbitMQ, PostgreSQL, the relay and the
one WebSocket client share another. 200 bytes of JSON each, all in one channel. RabbitMQ confirms and PostgreSQL
commits what is on the disk; the outbox's batch is one transaction; the Redis list is in the hub's Redis.
"""


@dataclass(frozen=True, slots=True)
class Way:
    """One way in; `kind` as in `Inlets.emitter`, `promise` what a call that returned means."""

    kind: str
    name: str
    promise: str
    batches: bool = False


WAYS = (
    Way("redis", '`Emitter("redis://…")`', "numbered, stored, published", batches=True),
    Way("http", '`Emitter("http://…")`', "numbered, stored, published", batches=True),
    Way("rabbit", '`Emitter("amqp://…")`', "RabbitMQ has it on the disk", batches=True),
    Way("list", '`Emitter("kombu+redis://…")`', "Redis has it in a list", batches=True),
    Way("outbox", "`Outbox`, PostgreSQL, `tidings outbox`", "committed with your own change", batches=True),
    Way("pusher", "Pusher's library for Python", "numbered, stored, published"),
    Way("manager", "python-socketio's write-only manager", "nothing: at most once"),
    Way("npm", "`@socket.io/redis-emitter`", "nothing: at most once"),
)


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long the two parts of each way take, in seconds, and how many publications say how fast it is about."""

    paced_s: float = 5.0
    flat_s: float = 3.0
    first: int = 200


@dataclass(frozen=True, slots=True)
class Cost:
    """What one way costs; `batch_per_s` is None where it has no batches."""

    way: Way
    p50_ms: float
    p99_ms: float
    one_per_s: float
    batch_per_s: float | None


@dataclass(slots=True)
class Meter:
    """One client of a node, and the numbers of publications so far, which must rise."""

    clients: Generator
    lengths: Lengths
    _next: int = field(default=1, init=False)

    def cost(self, way: Way, emitter: subprocess.Popen[str]) -> Cost:
        """Measure one way.

        Raises:
            machine.BenchError: something was lost, came twice or out of order.
        """
        lengths = self.lengths
        # Connections are made, and the interpreter has seen its code, before anything counts.
        self._send(emitter, BATCH // 5)
        paced = self._send(emitter, max(10, int(PACE_PER_S * lengths.paced_s)), rate_per_s=PACE_PER_S).latency_us
        one_per_s = self._flat(emitter, 1)
        batch_per_s = self._flat(emitter, BATCH) if way.batches else None
        return Cost(way, paced.p50 / 1e3, paced.p99 / 1e3, one_per_s, batch_per_s)

    def _flat(self, emitter: subprocess.Popen[str], batch: int) -> float:
        about = self._send(emitter, self.lengths.first, batch=batch)
        goal = about.deliveries / about.elapsed_s * self.lengths.flat_s
        whole = max(1, round(goal / batch)) * batch
        outcome = self._send(emitter, whole, batch=batch)
        return outcome.deliveries / outcome.elapsed_s

    def _send(self, emitter: subprocess.Popen[str], count: int, *, rate_per_s: int = 0, batch: int = 1) -> Outcome:
        self.clients.count(count, deadline_s=_DEADLINE_S)
        job = {"channels": [CHANNEL], "order": [0] * count, "first": self._next, "rate": rate_per_s}
        machine.say(emitter, json.dumps(job | {"batch": batch if batch > 1 else 0}))
        self._next += count
        outcome = self.clients.outcome()
        machine.hear(emitter)
        if outcome.deliveries != count or outcome.disorder:
            raise machine.BenchError(f"{outcome.deliveries} of {count} arrived, {outcome.disorder} out of order")
        return outcome


def measure(rig: Rig, servers: Servers, lengths: Lengths, ways: Sequence[Way]) -> Iterator[Cost]:
    """Each way in turn, against one node.

    Raises:
        machine.BenchError: as `Meter.cost`; or the node did not start.
    """
    with Inlets(rig, servers) as inlets, inlets.clients(1, [[CHANNEL]]) as clients:
        clients.connect()
        inlets.settle()
        meter = Meter(clients, lengths)
        for way in ways:
            with inlets.emitter(way.kind) as emitter:
                try:
                    yield meter.cost(way, emitter)
                except machine.BenchError as error:
                    raise machine.BenchError(f"{way.kind}: {error}") from error


def table(costs: Sequence[Cost]) -> str:
    """A row for each way."""
    lines = [
        "| publishing API | a call that returned means | p50 ms | p99 ms | single publications/s | in batches |\n",
        "|---|---|---|---|---|---|\n",
    ]
    for cost in costs:
        batch = "-" if cost.batch_per_s is None else _rounded(cost.batch_per_s)
        figures = f"{cost.p50_ms:.1f} | {cost.p99_ms:.1f} | {_rounded(cost.one_per_s)} | {batch}"
        lines.append(f"| {cost.way.name} | {cost.way.promise} | {figures} |\n")
    return "".join(lines)


def _rounded(per_s: float) -> str:
    """Two digits: more would say more than one run knows."""
    return f"{float(f'{per_s:.2g}'):,.0f}"


def put(page: str, costs: Sequence[Cost], *, when: str, processor: str) -> str:
    """The page with this table between its two marks.

    Raises:
        machine.BenchError: the page does not have both, once.
    """
    text = table(costs) + _TEXT.format(when=when, processor=processor)
    pattern = re.escape(_BEGIN) + ".*?" + re.escape(_END)
    written, times = re.subn(pattern, lambda _: f"{_BEGIN}\n{text}\n{_END}", page, flags=re.DOTALL)
    if times != 1:
        raise machine.BenchError(f"the page has {times} places between {_BEGIN.strip()} and {_END}")
    return written


def main() -> int:
    """Measures, and writes the page; with a part of the ways only prints."""
    parser = argparse.ArgumentParser(prog="bench.ways", description="what each way in costs")
    parser.add_argument("--way", default="", help=f"one of: {', '.join(way.kind for way in WAYS)}")
    parser.add_argument("--page", type=Path, default=PAGE, help="the Markdown page that has the place for the table")
    options = parser.parse_args()
    chosen = [way for way in WAYS if options.way in ("", way.kind)]
    if len(os.sched_getaffinity(0)) > 1:
        os.sched_setaffinity(0, {machine.LOAD_CORE})
    when, began_s = time.strftime("%Y-%m-%d", time.gmtime()), time.monotonic()
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
            put(page, costs, when=when, processor=machine.describe()["processor"]), encoding="utf-8"
        )
    sys.stderr.write(f"{time.monotonic() - began_s:.0f} s\n")
    return 0


if __name__ == "__main__":
    raise_on_stop_signals()
    sys.exit(main())
