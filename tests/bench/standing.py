"""Cases about connections as such: what they hold, whether they leave anything, how fast they come."""

from __future__ import annotations

import time
from dataclasses import dataclass

import redis

from bench import machine
from bench.case import Column, Row
from bench.generator import Transport
from bench.systems import Brisk, System, Tidings

_WARM_CLIENTS = 200
_SETTLE_S = 3.0
# Far longer than the hub lingers in a channel (1 s) and than a poll that was cut off is waited for (5 s).
_RETURN_S = 60.0
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
    Column("rss_grown_kib", "RSS grown, KiB"),
    Column("files_grown", "descriptors (Redis pool apart)"),
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
    Column("took_s", "s until all have everything", 2),
    Column("deliveries_per_s", "deliveries/s"),
    Column("delivered_pct", "delivered %", 2),
    Column("disorder", "twice or out of order"),
    Column("unrecovered", "recovered: false"),
    Column("load_pct", "generator CPU %"),
)


@dataclass(frozen=True, slots=True)
class Idle:
    """Memory per idle WebSocket with three channels, and the CPU of its heartbeats over `hold_s`."""

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
                held = clients.hold(self.hold_s)
                if held.lost:
                    raise machine.BenchError(f"{held.lost} idle clients were lost: {held.error}")
                row["heartbeat_us"] = (machine.cpu_s(system.pid) - used_s) * 1e6 / max(1, held.frames)
                row["load_pct"] = 100 * held.cpu_s / held.wall_s
        return row


@dataclass(frozen=True, slots=True)
class Leak:
    """What `cycles` connects and disconnects, half of them over polling, leave behind."""

    cycles: int
    concurrency: int = 200

    def __call__(self, system: System, *, quick: bool) -> Row:
        with Brisk(system.rig) as hub:
            return self._measured(hub, quick=quick)

    def _measured(self, system: Tidings, *, quick: bool) -> Row:
        self._churn(system, self.cycles // 10)
        before = self._standing(system, None)
        rate = self._churn(system, self.cycles // 10 if quick else self.cycles)
        after = self._standing(system, before)
        row = {
            "cycles_per_s": rate,
            "rss_grown_kib": (after["rss_bytes"] - before["rss_bytes"]) / 1024,
            "files_grown": after["files"] - before["files"],
            "redis_grown": after["redis"] - before["redis"],
            "sessions_left": after["sessions"],
        }
        # A node that does not count its greenlets has this figure as "did not run".
        if "greenlets" in after:
            row["greenlets_grown"] = after["greenlets"] - before["greenlets"]
        return row

    def _churn(self, system: System, cycles: int) -> float:
        rate = 0.0
        transports: tuple[Transport, ...] = ("websocket", "polling")
        for transport in transports:
            # Few users, so that each comes back often; several source addresses, or ports run out.
            with system.clients(1000, _CHANNELS, transport=transport, sources=8) as clients:
                outcome = clients.churn(cycles // 2, concurrency=self.concurrency)
                rate += outcome.cycles / outcome.wall_s / 2
        return rate

    def _standing(self, system: Tidings, goal: dict[str, float] | None) -> dict[str, float]:
        """What the server holds once it has come to rest: as in `goal`, or unchanged for a while."""
        deadline_s = time.monotonic() + _RETURN_S
        since_s, subscribed = time.monotonic(), -1.0
        while True:
            now = _holds(system)
            if now["redis"] != subscribed:
                since_s, subscribed = time.monotonic(), now["redis"]
            rested = subscribed <= goal["redis"] if goal else time.monotonic() - since_s > _UNCHANGED_S
            if (rested and now["sessions"] == 0) or time.monotonic() > deadline_s:
                time.sleep(_SETTLE_S)
                return _holds(system)
            time.sleep(1)


def _holds(system: Tidings) -> dict[str, float]:
    metrics = system.metrics()
    with redis.Redis.from_url(system.rig.redis_url) as link:
        clients = link.client_list()
    subscribed = sum(int(client["sub"]) + int(client["psub"]) for client in clients)
    return {
        "rss_bytes": machine.memory(system.pid).rss_bytes,
        # The hub's pool of connections to Redis grows to what was once needed at the same time, and stays:
        # they are the only clients of this Redis that come meanwhile.
        "files": machine.open_files(system.pid) - len(clients),
        "redis": subscribed,
        **({"greenlets": metrics["tidings_greenlets"]} if "tidings_greenlets" in metrics else {}),
        "sessions": metrics["tidings_sessions"],
    }


@dataclass(frozen=True, slots=True)
class Connect:
    """Connects with a token and two channels: 200 at a time, then all at once after a cut. `clients` per system."""

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
    """All clients are cut off, `missed` publications are made, all come back at once with their cursor."""

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
            system.emitted()
            back = clients.connect(concurrency=count, expected=count * self.missed)
        return {
            "took_s": back.wall_s,
            "deliveries_per_s": back.deliveries / back.wall_s,
            "delivered_pct": 100 * back.deliveries / back.expected,
            "disorder": back.disorder,
            "unrecovered": back.unrecovered,
            "load_pct": 100 * back.cpu_s / back.wall_s,
        }
