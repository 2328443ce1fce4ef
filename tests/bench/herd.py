"""The case `herd`: thousands of clients return at once while other clients are served."""

from __future__ import annotations

import time
from dataclasses import dataclass

import redis

from bench import machine
from bench.case import Column, Row
from bench.systems import Tidings

_LIVE_CLIENTS = 50
_LIVE_RATE_PER_S = 50
# Longer than a herd takes on the slowest machine that the suite was tried on.
_LIVE_PUBLICATIONS = 400
_SETTLE_S = 0.5

HERD = (
    Column("took_s", "s until all have received everything", 2),
    Column("ready_p99_ms", "p99 ms until ready"),
    Column("server_us", "server CPU µs/client"),
    Column("grown_mib", "server peak memory growth, MiB"),
    Column("redis_scripts", "Redis scripts"),
    Column("redis_read_mib", "MiB sent by Redis", 1),
    Column("live_p99_ms", "p99 ms of other clients", 1),
    Column("delivered_pct", "delivered %", 2),
    Column("disorder", "duplicates or out of order"),
    Column("unrecovered", "recovered: false"),
    Column("load_pct", "generator CPU %"),
)


@dataclass(frozen=True, slots=True)
class Herd:
    """Cut all clients, publish `missed` publications, reconnect all at once with their cursors.

    Every client has its user's channel and two shared ones. 50 other clients receive 50 publications a second.
    """

    clients: int
    missed: int

    def __call__(self, system: Tidings, *, quick: bool) -> Row:
        count = self.clients // 4 if quick else self.clients
        live_channel, shared = ["bench:live"], ["bench:one", "bench:two"]
        with (
            system.clients(_LIVE_CLIENTS, [live_channel]) as others,
            system.clients(count, [shared], sample=64, keep_cursor=True) as clients,
        ):
            others.connect()
            clients.connect()
            system.settle()
            clients.cut()
            time.sleep(_SETTLE_S)
            order = [number % 2 for number in range(self.missed)]
            system.emit({"channels": shared, "order": order, "first": 1, "batch": 100})
            system.emit_result()
            before = machine.memory(system.pid).rss_bytes
            machine.reset_peak(system.pid)
            scripts, read_bytes = _redis_work(system.rig.redis_url)
            others.count(_LIVE_CLIENTS * _LIVE_PUBLICATIONS)
            live_order = [0] * _LIVE_PUBLICATIONS
            system.emit({"channels": live_channel, "order": live_order, "first": 1, "rate": _LIVE_RATE_PER_S})
            used_s = machine.cpu_s(system.pid)
            recovery = clients.connect(concurrency=count, expected=count * self.missed)
            used_s = machine.cpu_s(system.pid) - used_s
            scripts_after, read_bytes_after = _redis_work(system.rig.redis_url)
            peak = machine.peak_bytes(system.pid)
            live = others.outcome()
            system.emit_result()
        if live.deliveries < live.expected:
            raise machine.BenchError(f"other clients received {live.deliveries} of {live.expected} publications")
        return {
            "took_s": recovery.wall_s,
            "ready_p99_ms": recovery.connect_us.p99 / 1e3,
            "server_us": used_s * 1e6 / count,
            "grown_mib": (peak - before) / 2**20,
            "redis_scripts": scripts_after - scripts,
            "redis_read_mib": (read_bytes_after - read_bytes) / 2**20,
            "live_p99_ms": live.latency_us.p99 / 1e3,
            "delivered_pct": 100 * recovery.deliveries / recovery.expected,
            "disorder": recovery.disorder,
            "unrecovered": recovery.unrecovered,
            "load_pct": 100 * recovery.cpu_s / recovery.wall_s,
        }


def _redis_work(url: str) -> tuple[int, int]:
    """Scripts that Redis has run, and bytes that it has sent to all clients."""
    with redis.Redis.from_url(url) as client:
        calls = client.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"]
        return calls, client.info("stats")["total_net_output_bytes"]
