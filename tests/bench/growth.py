"""The case `growth`: what a connection and a delivery cost as connections grow; flat is good."""

from __future__ import annotations

from dataclasses import dataclass

from bench.case import Column, Row
from bench.delivery import to_one
from bench.standing import Idle
from bench.systems import System

SIZES = (1000, 2000, 4000, 8000, 16_000)
_QUICK_SIZES = (500, 1000)
# Every size makes about this many deliveries.
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
    """One channel, and idle memory, at every size.

    On a server of its own each: one that had more clients before has their memory still. With one publication on
    the way: flat out the more are joined in one write the more clients there are, and the cost only falls.
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
                # The floor joins nothing anyway, and counts its own publications.
                one = to_one(size, {system.name: _DELIVERIES // size}, window=0 if is_floor else 1)
                row[f"us_{size}"] = one(fresh, quick=quick)["server_us"]
        row["us_drift_pct"] = _drift_pct([row[f"us_{size}"] for size in sizes])
        if not is_floor:
            row["bytes_drift_pct"] = _drift_pct([row[f"bytes_{size}"] for size in sizes])
        return row
