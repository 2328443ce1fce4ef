"""The case `resubscribe`: the connection to Redis breaks on a node with many channels, under load."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

import redis

from bench import machine
from bench.case import Column, Row
from bench.systems import ManyChannels, System

SIZES = (1_000, 10_000, 100_000)
_QUICK_SIZES = (1_000, 5_000)
_PER_CLIENT = 100
# Nine of ten publications are in these channels, the others anywhere.
_BUSY = 100
_RATE_PER_S = 500
# Connects at a time: each subscribes to 100 new channels.
_CONNECTS = 20
_WARM_S = 2
_LOAD_S = 4
_REPAIR_DEADLINE_S = 120.0
_POLL_S = 0.02
_SEED = 20261129

RESUBSCRIBE = (
    *(Column(f"p50_ms_{size}", f"p50 ms at {size:,}", 1) for size in SIZES),
    *(Column(f"p99_ms_{size}", f"p99 ms at {size:,}") for size in SIZES),
    *(Column(f"max_ms_{size}", f"largest ms at {size:,}") for size in SIZES),
    *(Column(f"repaired_s_{size}", f"s until all of {size:,} are repaired", 2) for size in SIZES),
    Column("delivered_pct", "delivered %", 2),
)


@dataclass(frozen=True, slots=True)
class Resubscribe:
    """Latency of what is published from the break on, and the time until every channel is repaired, at each size.

    Each size has a new server. Redis closes its subscriber connection.
    """

    def __call__(self, system: System, *, quick: bool) -> Row:
        row: Row = {"delivered_pct": 100.0}
        for size in _QUICK_SIZES if quick else SIZES:
            with ManyChannels(system.rig) as hub:
                figures = self._measure(hub, size)
            row["delivered_pct"] = min(row["delivered_pct"], figures.pop("delivered_pct"))
            row |= {f"{name}_{size}": value for name, value in figures.items()}
        return row

    def _measure(self, hub: ManyChannels, size: int) -> Row:
        draw = random.Random(_SEED)
        names = [f"bench:c{number}" for number in range(size)]
        busy = draw.sample(range(size), _BUSY)

        def order(seconds: int) -> list[int]:
            return [draw.choice(busy) if turn % 10 else draw.randrange(size) for turn in range(seconds * _RATE_PER_S)]

        subscriptions = [names[start : start + _PER_CLIENT] for start in range(0, size, _PER_CLIENT)]
        with (
            hub.clients(size // _PER_CLIENT, subscriptions) as clients,
            redis.Redis.from_url(hub.rig.redis_url) as client,
        ):
            clients.connect(concurrency=_CONNECTS)
            hub.settle()
            job = {"channels": names, "first": 1, "rate": _RATE_PER_S}
            hub.emit(job | {"order": order(_WARM_S)})
            hub.emit_result()
            expected = order(_LOAD_S)
            clients.count(len(expected), deadline_s=_REPAIR_DEADLINE_S)
            client.client_kill_filter(_type="pubsub")
            began_s = time.monotonic()
            hub.emit(job | {"order": expected})
            repaired_s = self._await_repair(hub, began_s)
            outcome = clients.outcome()
            hub.emit_result()
        return {
            "p50_ms": outcome.latency_us.p50 / 1e3,
            "p99_ms": outcome.latency_us.p99 / 1e3,
            "max_ms": outcome.latency_us.max / 1e3,
            "repaired_s": repaired_s,
            "delivered_pct": 100 * outcome.deliveries / outcome.expected,
        }

    def _await_repair(self, hub: ManyChannels, began_s: float) -> float:
        """Wait until the node has reconnected and repaired every channel. Returns the seconds since `began_s`."""
        while time.monotonic() < began_s + _REPAIR_DEADLINE_S:
            metrics = hub.metrics()
            unrepaired = metrics.get("tidings_broker_channels_unverified", 0)
            if metrics["tidings_broker_reconnects_total"] and metrics["tidings_broker_connected"] and not unrepaired:
                return time.monotonic() - began_s
            time.sleep(_POLL_S)
        raise machine.BenchError(f"the channels were not repaired within {_REPAIR_DEADLINE_S:.0f} s")
