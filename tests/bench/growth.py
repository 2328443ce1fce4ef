"""The case `growth`: cost of a connection and of a delivery at growing numbers of connections. Flat is good."""

from __future__ import annotations

from dataclasses import dataclass

from bench.case import Column, Row
from bench.connections import Idle
from bench.delivery import to_one
from bench.systems import System

SIZES = (1000, 2000, 4000, 8000, 16_000)
_QUICK_SIZES = (500, 1000)
# Deliveries at each size, about.
_DELIVERIES = 400_000

GROWTH = (
    *(Column(f"us_{size}", f"µs/delivery at {size:,}", 2) for size in SIZES),
    *(Column(f"bytes_{size}", f"bytes each at {size:,}") for size in SIZES),
    Column("us_drift_pct", "cost per delivery, largest off the mean, %", 1),
    Column("bytes_drift_pct", "memory per client, largest off the mean, %", 1),
)


def _drift_pct(values: list[float]) -> float:
    mean = sum(values) / len(values)
    return max(abs(value - mean) / mean for value in values) * 100


@dataclass(frozen=True, slots=True)
class Growth:
    """Fan-out in one channel, and idle memory, at every size.

    Each size has a new server, since a server keeps the memory of earlier clients. One publication is in flight:
    under full load a server combines more publications per write the more clients it has, and the cost only falls.
    """

    def __call__(self, system: System, *, quick: bool) -> Row:
        row: Row = {}
        sizes = _QUICK_SIZES if quick else SIZES
        is_floor = system.name == "floor"
        for size in sizes:
            fresh = type(system)(system.rig)
            fresh.clients_expected = size
            with fresh:
                if not is_floor:
                    row[f"bytes_{size}"] = Idle(size)(fresh, quick=False)["rss_bytes"]
                # The floor never combines publications, and it has no emitter that could keep a window.
                fan_out = to_one(size, {system.name: _DELIVERIES // size}, window=0 if is_floor else 1)
                row[f"us_{size}"] = fan_out(fresh, quick=quick)["server_us"]
        row["us_drift_pct"] = _drift_pct([row[f"us_{size}"] for size in sizes])
        if not is_floor:
            row["bytes_drift_pct"] = _drift_pct([row[f"bytes_{size}"] for size in sizes])
        return row
