"""A benchmark case and its runner. The systems of a case take turns: A B A B."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Protocol

from bench import machine
from bench.systems import SYSTEMS, Rig, System

# One round of one system: column -> figure.
Row = dict[str, float]


class Measure(Protocol):
    """Measure one round of one started system. `quick` rounds are shorter.

    Raises:
        machine.BenchError: the round has no result.
    """

    def __call__(self, system: System, *, quick: bool) -> Row: ...


@dataclass(frozen=True, slots=True)
class Column:
    """One figure of a round, printed with `digits` digits after the decimal point."""

    key: str
    heading: str
    digits: int = 0


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound for the median of tidings, or for the ratio of that median to the median of `against`."""

    text: str
    column: str
    bound: float
    against: str = ""
    at_most: bool = False

    def judge(self, rows: Mapping[str, Sequence[Row]]) -> tuple[float, bool] | None:
        """Return the value and whether it meets the goal; None if one of the two systems did not run."""
        tidings_rows, peer_rows = rows.get("tidings"), rows.get(self.against) if self.against else None
        rounds = (*(tidings_rows or ()), *(peer_rows or ()))
        if not tidings_rows or (self.against and not peer_rows) or any(self.column not in row for row in rounds):
            return None
        value = median(tidings_rows, self.column)
        if peer_rows:
            base = median(peer_rows, self.column)
            value = value / base if base else float("inf")
        return value, value <= self.bound if self.at_most else value >= self.bound


@dataclass(frozen=True, slots=True)
class Case:
    """One case of the suite. `measure` runs one round of one started system.

    `fresh`: start a new server for every round.
    `bottleneck`: the bottleneck that the profile shows. The page contains it only if a goal is missed.
    """

    name: str
    title: str
    description: str
    systems: tuple[str, ...]
    measure: Measure
    columns: tuple[Column, ...]
    goals: tuple[Goal, ...] = ()
    fresh: bool = False
    rounds: int = 5
    floor_clients: int = 1000
    bottleneck: str = ""


@dataclass(slots=True)
class Result:
    """All rounds of one case, by system. `failures` has the reason for each system that did not run."""

    case: Case
    rows: dict[str, list[Row]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


def median(rows: Sequence[Row], column: str) -> float:
    """Median of one column over the rounds."""
    return statistics.median(row[column] for row in rows)


def spread(rows: Sequence[Row], column: str) -> tuple[float, float]:
    """Minimum and maximum of one column over the rounds."""
    values = [row[column] for row in rows]
    return min(values), max(values)


def run(case: Case, rig: Rig, *, rounds: int | None = None, quick: bool = False) -> Result:
    """Run the rounds of a case: every system once, then every system again.

    A system that fails is skipped from then on, and its error is recorded. The other systems continue.
    """
    result = Result(case)
    default_rounds = min(case.rounds, 2) if quick else case.rounds
    with ExitStack() as stack:
        running: dict[str, System] = {}
        for turn in range(rounds or default_rounds):
            for name in case.systems:
                if name in result.failures:
                    continue
                try:
                    if case.fresh or name == "floor":
                        with _new_system(case, name, rig) as system:
                            row = case.measure(system, quick=quick)
                    else:
                        if name not in running:
                            running[name] = stack.enter_context(_new_system(case, name, rig))
                        row = case.measure(running[name], quick=quick)
                except (machine.BenchError, OSError) as error:
                    result.failures[name] = str(error)
                    _log(f"{case.name}: {name}: {error}")
                    continue
                result.rows.setdefault(name, []).append(row)
                figures = ", ".join(f"{c.heading} {row[c.key]:.{c.digits}f}" for c in case.columns if c.key in row)
                _log(f"{case.name} {turn + 1}: {name}: {figures}")
    return result


def _new_system(case: Case, name: str, rig: Rig) -> System:
    system = SYSTEMS[name](rig)
    system.clients_expected = case.floor_clients
    return system


def _log(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
