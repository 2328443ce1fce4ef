"""Scaling to two nodes, and the cost of a publication in Redis: `python -m faults --scale`.

All clients are in one channel, every node has the same number of them, and one emitter publishes as fast as it can.
Generators, emitter and Redis share the cores with the nodes. On two cores, two nodes therefore cannot double the
deliveries per second. The CPU time per delivery shows how the hub scales. Measure only on an idle machine.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass

from bench.machine import cpu_s
from bench.rig import open_rig
from bench.systems import Tidings

CLIENTS = 1000
PUBLICATIONS = 4000
_DEADLINE_S = 120.0
_HEAD = "nodes | clients | deliveries/s | node us/delivery | deliveries/s of node CPU | Redis us/publication | lost\n"


@dataclass(frozen=True, slots=True)
class Scale:
    """The result with `nodes` nodes. `node_s` is the CPU time of all nodes."""

    nodes: int
    deliveries: int
    expected: int
    elapsed_s: float
    node_s: float
    redis_s: float

    def row(self) -> str:
        """One line of the table."""
        return (
            f"{self.nodes:>5} | {self.nodes * CLIENTS:>7} | {self.deliveries / self.elapsed_s:>12,.0f} "
            f"| {1e6 * self.node_s / self.deliveries:>16.3f} | {self.nodes * self.deliveries / self.node_s:>24,.0f} "
            f"| {1e6 * self.redis_s / PUBLICATIONS:>20.1f} | {self.expected - self.deliveries:>4}\n"
        )


def measure(nodes: int) -> Scale:
    """Measure one round. Each node is pinned to a core; its clients are pinned to the next core."""
    with open_rig() as rig, ExitStack() as stack:
        systems = [stack.enter_context(Tidings(rig)) for _ in range(nodes)]
        loads = [stack.enter_context(system.clients(CLIENTS, [["bench:all"]], sample=16)) for system in systems]
        cores = sorted(os.sched_getaffinity(0))
        for index, (system, load) in enumerate(zip(systems, loads, strict=True)):
            os.sched_setaffinity(system.pid, {cores[index % len(cores)]})
            os.sched_setaffinity(load._process.pid, {cores[(index + 1) % len(cores)]})
        for load in loads:
            load.connect()
        systems[0].settle()
        expected = CLIENTS * PUBLICATIONS
        for load in loads:
            load.count(expected, deadline_s=_DEADLINE_S)
        pids = [system.pid for system in systems]
        before, redis_before = sum(map(cpu_s, pids)), cpu_s(rig.redis_pid)
        systems[0].emit({"channels": ["bench:all"], "order": [0] * PUBLICATIONS, "first": 1, "rate": 0, "batch": 0})
        outcomes = [load.outcome() for load in loads]
        node_s, redis_s = sum(map(cpu_s, pids)) - before, cpu_s(rig.redis_pid) - redis_before
        systems[0].emit_result()
    return Scale(
        nodes,
        sum(outcome.deliveries for outcome in outcomes),
        expected * nodes,
        max(outcome.elapsed_s for outcome in outcomes),
        node_s,
        redis_s,
    )


def table(rounds: int = 3) -> str:
    """The table for one and for two nodes, with the best of `rounds` rounds each."""
    results = [min((measure(nodes) for _ in range(rounds)), key=lambda result: result.elapsed_s) for nodes in (1, 2)]
    return _HEAD + "".join(result.row() for result in results)
