"""Cases about connections: memory, leaks, connects per second, recovery."""

from __future__ import annotations

import time
from dataclasses import dataclass

import redis

from bench import machine
from bench.case import Column, Row
from bench.generator import Transport
from bench.systems import FastCleanup, System, Tidings

_WARM_CLIENTS = 200
_SETTLE_S = 3.0
# Much longer than `linger_s` (1 s here) and than the hub waits for a client that cut its poll (5 s).
_CLEANUP_S = 60.0
_UNCHANGED_S = 5.0
_CHANNELS = [["bench:one", "bench:two"]]

MEMORY = (
    Column("pss_bytes", "PSS bytes/connection"),
    Column("rss_bytes", "RSS bytes/connection"),
    Column("kernel_bytes", "kernel bytes/connection, both ends"),
    Column("base_mib", "server before, MiB", 1),
    Column("heartbeat_us", "server CPU µs/heartbeat", 1),
    Column("load_pct", "generator CPU %"),
)
LEAK = (
    Column("cycles_per_s", "connects and disconnects/s"),
    Column("rss_grown_kib", "RSS growth, KiB"),
    Column("files_grown", "descriptors (without the Redis pool)"),
    Column("redis_grown", "Redis subscriptions"),
    Column("greenlets_grown", "greenlets"),
    Column("sessions_left", "sessions left"),
)
CONNECT = (
    Column("steady_per_s", "connects/s, 200 at a time"),
    Column("steady_p99_ms", "p99 ms", 1),
    Column("storm_per_s", "connects/s, all at once after a cut"),
    Column("storm_p99_ms", "p99 ms (storm)", 1),
    Column("server_us", "server CPU µs/connect", 1),
    Column("load_pct", "generator CPU %"),
)
RECOVER = (
    Column("took_s", "s until all have received everything", 2),
    Column("deliveries_per_s", "deliveries/s"),
    Column("delivered_pct", "delivered %", 2),
    Column("disorder", "duplicates or out of order"),
    Column("unrecovered", "recovered: false"),
    Column("load_pct", "generator CPU %"),
)


@dataclass(frozen=True, slots=True)
class Idle:
    """Memory per idle WebSocket with three channels, and the CPU of its heartbeats during `hold_s`."""

    clients: int
    hold_s: float = 0

    def __call__(self, system: System, *, quick: bool) -> Row:
        with system.clients(_WARM_CLIENTS, _CHANNELS) as first:
            first.connect()
            system.settle()
        time.sleep(_SETTLE_S)
        before, kernel = machine.memory(system.pid), machine.kernel_bytes()
        count = self.clients // 4 if quick else self.clients
        with system.clients(count, _CHANNELS) as clients:
            clients.connect()
            time.sleep(_SETTLE_S)
            after = machine.memory(system.pid)
            row = {
                "pss_bytes": (after.pss_bytes - before.pss_bytes) / count,
                "rss_bytes": (after.rss_bytes - before.rss_bytes) / count,
                "kernel_bytes": (machine.kernel_bytes() - kernel) / count,
                "base_mib": before.rss_bytes / 2**20,
            }
            if self.hold_s:
                used_s = machine.cpu_s(system.pid)
                idle = clients.hold(self.hold_s)
                if idle.lost:
                    raise machine.BenchError(f"{idle.lost} idle clients were lost: {idle.error}")
                row["heartbeat_us"] = (machine.cpu_s(system.pid) - used_s) * 1e6 / max(1, idle.frames)
                row["load_pct"] = 100 * idle.cpu_s / idle.wall_s
        return row


@dataclass(frozen=True, slots=True)
class Leak:
    """What `cycles` connects and disconnects leave behind. Half of them use polling."""

    cycles: int
    concurrency: int = 200

    def __call__(self, system: System, *, quick: bool) -> Row:
        with FastCleanup(system.rig) as hub:
            return self._measure(hub, quick=quick)

    def _measure(self, system: Tidings, *, quick: bool) -> Row:
        self._churn(system, self.cycles // 10)
        before = self._resources_at_rest(system, None)
        rate = self._churn(system, self.cycles // 10 if quick else self.cycles)
        after = self._resources_at_rest(system, before)
        row = {
            "cycles_per_s": rate,
            "rss_grown_kib": (after["rss_bytes"] - before["rss_bytes"]) / 1024,
            "files_grown": after["files"] - before["files"],
            "redis_grown": after["redis"] - before["redis"],
            "sessions_left": after["sessions"],
        }
        # A node that does not count its greenlets has no such figure; the goal shows "did not run".
        if "greenlets" in after:
            row["greenlets_grown"] = after["greenlets"] - before["greenlets"]
        return row

    def _churn(self, system: System, cycles: int) -> float:
        rate = 0.0
        transports: tuple[Transport, ...] = ("websocket", "polling")
        for transport in transports:
            # Few users, so that each one reconnects often. Several source addresses, since one runs out of ports.
            with system.clients(1000, _CHANNELS, transport=transport, sources=8) as clients:
                outcome = clients.churn(cycles // 2, concurrency=self.concurrency)
                rate += outcome.cycles / outcome.wall_s / 2
        return rate

    def _resources_at_rest(self, system: Tidings, goal: dict[str, float] | None) -> dict[str, float]:
        """Resources of the server after its clean-up: subscriptions as in `goal`, or unchanged for some seconds."""
        deadline_s = time.monotonic() + _CLEANUP_S
        since_s, subscribed = time.monotonic(), -1.0
        while True:
            now = _resources(system)
            if now["redis"] != subscribed:
                since_s, subscribed = time.monotonic(), now["redis"]
            is_at_rest = subscribed <= goal["redis"] if goal else time.monotonic() - since_s > _UNCHANGED_S
            if (is_at_rest and now["sessions"] == 0) or time.monotonic() > deadline_s:
                time.sleep(_SETTLE_S)
                return _resources(system)
            time.sleep(1)


def _resources(system: Tidings) -> dict[str, float]:
    metrics = system.metrics()
    with redis.Redis.from_url(system.rig.redis_url) as client:
        clients = client.client_list()
    subscribed = sum(int(client["sub"]) + int(client["psub"]) for client in clients)
    return {
        "rss_bytes": machine.memory(system.pid).rss_bytes,
        # The hub's pool of Redis connections grows to its peak and stays there.
        # Only the hub opens connections to this Redis during a round.
        "files": machine.open_files(system.pid) - len(clients),
        "redis": subscribed,
        **({"greenlets": metrics["tidings_greenlets"]} if "tidings_greenlets" in metrics else {}),
        "sessions": metrics["tidings_sessions"],
    }


@dataclass(frozen=True, slots=True)
class Connect:
    """Connects with a token and two channels: 200 at a time, then all at once after a cut.

    `clients`: number of clients per system.
    """

    clients: dict[str, int]
    transport: Transport

    def __call__(self, system: System, *, quick: bool) -> Row:
        count = self.clients[system.name] // 4 if quick else self.clients[system.name]
        with system.clients(count, _CHANNELS, transport=self.transport) as clients:
            used_s = machine.cpu_s(system.pid)
            steady = clients.connect()
            used_s = machine.cpu_s(system.pid) - used_s
            clients.cut()
            storm = clients.connect(concurrency=count)
        return {
            "steady_per_s": count / steady.wall_s,
            "steady_p99_ms": steady.connect_us.p99 / 1e3,
            "storm_per_s": count / storm.wall_s,
            "storm_p99_ms": storm.connect_us.p99 / 1e3,
            "server_us": used_s * 1e6 / count,
            "load_pct": 100 * (steady.cpu_s + storm.cpu_s) / (steady.wall_s + storm.wall_s),
        }


@dataclass(frozen=True, slots=True)
class Recover:
    """Cut all clients, publish `missed` publications, and reconnect all clients at once with their cursors."""

    clients: int
    missed: int

    def __call__(self, system: System, *, quick: bool) -> Row:
        count = self.clients // 4 if quick else self.clients
        with system.clients(count, [["bench:all"]], sample=64, keep_cursor=True) as clients:
            clients.connect()
            system.settle()
            clients.cut()
            time.sleep(0.5)
            system.emit({"channels": ["bench:all"], "order": [0] * self.missed, "first": 1})
            system.emit_result()
            recovery = clients.connect(concurrency=count, expected=count * self.missed)
        return {
            "took_s": recovery.wall_s,
            "deliveries_per_s": recovery.deliveries / recovery.wall_s,
            "delivered_pct": 100 * recovery.deliveries / recovery.expected,
            "disorder": recovery.disorder,
            "unrecovered": recovery.unrecovered,
            "load_pct": 100 * recovery.cpu_s / recovery.wall_s,
        }
