"""One round of delivery: clients connect, an emitter publishes, the generator counts every delivery."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench import machine
from bench.case import Column, Row
from bench.generator import Outcome, Transport
from bench.systems import System

# Longer than the slowest case of python-socketio takes.
_DEADLINE_S = 60.0
_SEED = 20261122

FLAT = (
    Column("deliveries_per_s", "deliveries/s"),
    Column("server_us", "server CPU µs/delivery", 2),
    Column("delivered_pct", "delivered %", 2),
    Column("disorder", "out of order"),
    Column("server_pct", "server CPU %"),
    Column("p50_ms", "p50 ms"),
    Column("load_pct", "generator CPU %"),
    Column("redis_pct", "Redis CPU %"),
    Column("emitter_pct", "emitter CPU %"),
)
PACED = (
    Column("p50_ms", "p50 ms", 2),
    Column("p95_ms", "p95 ms", 2),
    Column("p99_ms", "p99 ms", 2),
    Column("server_us", "server CPU µs/delivery", 2),
    Column("delivered_pct", "delivered %", 2),
    Column("disorder", "out of order"),
    Column("load_pct", "generator CPU %"),
)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One round of publications and deliveries.

    Attributes:
        subscriptions: Client i subscribes to `subscriptions[i % len(subscriptions)]`.
        publications: Number of publications per system. Slow systems get fewer, so that a round takes seconds.
        order: `order(n)` is the channel (as index) of each of n publications.
        delivery_count: `delivery_count(order)` is the number of deliveries that these publications make.
        window: Publications that may be in flight (0: no limit). Without a limit, a server that buffers a long
            backlog writes it in large pieces, and latency is seconds.
    """

    clients: int
    channels: Sequence[str]
    subscriptions: Sequence[Sequence[str]]
    publications: dict[str, int]
    order: Callable[[int], list[int]]
    delivery_count: Callable[[list[int]], int]
    transport: Transport = "websocket"
    rate_per_s: float = 0
    batch: dict[str, int] = field(default_factory=dict)
    window: int = 0

    def __call__(self, system: System, *, quick: bool) -> Row:
        count = self.publications[system.name]
        order = self.order(max(10, count // 4) if quick else count)
        expected = self.delivery_count(order)
        sample = 1 if self.rate_per_s else 16
        with system.clients(self.clients, self.subscriptions, transport=self.transport, sample=sample) as clients:
            clients.connect()
            system.settle()
            job = {"channels": self.channels, "order": order, "first": 1, "rate": self.rate_per_s}
            pids = {"server": system.pid, "redis": system.rig.redis_pid, "emitter": system.emitter_pid}
            before = {name: machine.cpu_s(pid) for name, pid in pids.items() if pid}
            fifo = system.rig.fifo()
            clients.count(expected, deadline_s=_DEADLINE_S, step=self.clients if self.window else 0, fifo=fifo)
            system.emit(job | {"batch": self.batch.get(system.name, 0), "window": self.window, "fifo": str(fifo)})
            outcome = clients.outcome()
            used = {name: machine.cpu_s(pid) - before[name] for name, pid in pids.items() if pid}
            system.emit_result()
        return figures(outcome, used)


def figures(outcome: Outcome, used: dict[str, float]) -> Row:
    """The figures of one round; `used` is CPU seconds by process.

    Raises:
        BenchError: no delivery arrived.
    """
    if not outcome.deliveries:
        raise machine.BenchError(f"no delivery arrived: {outcome.error}")
    elapsed_s, latency = outcome.elapsed_s, outcome.latency_us
    return {
        "deliveries_per_s": outcome.deliveries / elapsed_s,
        "delivered_pct": 100 * outcome.deliveries / outcome.expected,
        "disorder": outcome.disorder,
        "lost_clients": outcome.lost,
        "p50_ms": latency.p50 / 1e3,
        "p95_ms": latency.p95 / 1e3,
        "p99_ms": latency.p99 / 1e3,
        "server_us": used["server"] * 1e6 / outcome.deliveries,
        "server_pct": 100 * used["server"] / elapsed_s,
        "redis_pct": 100 * used["redis"] / elapsed_s,
        "emitter_pct": 100 * used.get("emitter", 0) / elapsed_s,
        "load_pct": 100 * outcome.cpu_s / elapsed_s,
    }


def to_one(
    clients: int,
    publications: dict[str, int],
    *,
    transport: Transport = "websocket",
    rate_per_s: float = 0,
    window: int = 0,
    batch: int = 0,
) -> Delivery:
    """One channel with all clients; the emitter of tidings sends batches of `batch`."""
    return Delivery(
        clients,
        ["bench:all"],
        [["bench:all"]],
        publications,
        order=lambda count: [0] * count,
        delivery_count=lambda order: len(order) * clients,
        transport=transport,
        rate_per_s=rate_per_s,
        window=window,
        batch={"tidings": batch},
    )


def personal(users: int, publications: dict[str, int], *, batch: int) -> Delivery:
    """One channel per client, a random channel per publication."""
    draw = random.Random(_SEED)
    return Delivery(
        users,
        [f"bench:u{index}" for index in range(users)],
        [[f"bench:u{index}"] for index in range(users)],
        publications,
        order=lambda count: [draw.randrange(users) for _ in range(count)],
        delivery_count=len,
        batch={"tidings": batch},
    )


def mixed(clients: int, channels: int, per_channel: int, publications: dict[str, int], *, batch: int) -> Delivery:
    """`channels` channels with `per_channel` of the clients each, a random channel per publication."""
    draw = random.Random(_SEED)
    names = [f"bench:m{index}" for index in range(channels)]
    channels_each = channels * per_channel // clients
    # Spread evenly: every channel has `per_channel` clients.
    subscriptions = [
        [names[(index * channels_each + at) % channels] for at in range(channels_each)] for index in range(clients)
    ]
    return Delivery(
        clients,
        names,
        subscriptions,
        publications,
        order=lambda count: [draw.randrange(channels) for _ in range(count)],
        delivery_count=lambda order: len(order) * per_channel,
        batch={"tidings": batch},
    )
