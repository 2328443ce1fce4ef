"""The case `emit`: publications per second of one emitter, directly to the broker and through the HTTP API."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from bench import machine
from bench.case import Column, Row
from bench.systems import System

EMIT = (
    Column("single_per_s", "emit/s"),
    Column("batch_per_s", "emit/s in batches of 100"),
    Column("bare_per_s", "bare redis-py pipeline/s"),
    Column("batch_ratio", "batch / bare", 2),
    Column("http_per_s", "HTTP emit/s"),
    Column("http_batch_per_s", "HTTP emit/s in batches of 100"),
)


@dataclass(frozen=True, slots=True)
class Emit:
    """One emitter in its own process, on the core of the load, next to Redis. The channel has no subscribers."""

    each_s: float = 1.0

    def __call__(self, system: System, *, quick: bool) -> Row:
        rig = system.rig
        each_s = self.each_s / 4 if quick else self.each_s
        script = [sys.executable, str(machine.HERE / "peers" / "emit_rates.py")]
        process = machine.spawn(
            [*script, rig.redis_url, f"http://127.0.0.1:{system.port}", rig.api_key, str(each_s)],
            core=machine.LOAD_CORE,
            log=system.log,
        )
        try:
            rates: Row = machine.read_reply(process)
        finally:
            machine.stop(process)
        return rates | {"batch_ratio": rates["batch_per_s"] / rates["bare_per_s"]}
