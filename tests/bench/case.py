"""What a case is, and how its rounds run: the systems in turn, A B A B."""

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
    """One round of one started system; `quick` rounds are shorter.

    Raises:
        machine.BenchError: nothing was measured.
    """

    def __call__(self, system: System, *, quick: bool) -> Row: ...


@dataclass(frozen=True, slots=True)
class Column:
    """One figure of a round. `digits` after the point when it is shown."""

    key: str
    heading: str
    digits: int = 0


@dataclass(frozen=True, slots=True)
class Goal:
    """What tidings must reach: a median of its own, or its ratio to a peer's, against a bound."""

    text: str
    column: str
    bound: float
    against: str = ""
    at_most: bool = False

    def judge(self, rows: Mapping[str, Sequence[Row]]) -> tuple[float, bool] | None:
        """The value and whether it is reached; None if one of the two did not run."""
        own, other = rows.get("tidings"), rows.get(self.against) if self.against else None
        if not own or (self.against and not other) or any(self.column not in row for row in (*own, *(other or ()))):
            return None
        value = median(own, self.column)
        if other:
            base = median(other, self.column)
            value = value / base if base else float("inf")
        return value, value <= self.bound if self.at_most else value >= self.bound


@dataclass(frozen=True, slots=True)
class Case:
    """One row of the suite. `measure` runs one round of one started system.

    `fresh`: every round gets a server that was just started.
    `limit`: where a goal is missed, what the profile shows to be in the way; the page says it then.
    """

    name: str
    title: str
    how: str
    systems: tuple[str, ...]
    measure: Measure
    columns: tuple[Column, ...]
    goals: tuple[Goal, ...] = ()
    fresh: bool = False
    rounds: int = 5
    floor_clients: int = 1000
    limit: str = ""


@dataclass(slots=True)
class Result:
    """All rounds of one case: system -> rows; `failures` says what did not run, and why."""

    case: Case
    rows: dict[str, list[Row]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


def median(rows: Sequence[Row], column: str) -> float:
    """Of one column over the rounds."""
    return statistics.median(row[column] for row in rows)


def spread(rows: Sequence[Row], column: str) -> tuple[float, float]:
    """Least and most of one column over the rounds."""
    values = [row[column] for row in rows]
    return min(values), max(values)


def run(case: Case, rig: Rig, *, rounds: int | None = None, quick: bool = False) -> Result:
    """Runs the rounds of a case: every system once, then every system again.

    A system that cannot run is left out with its reason; the others go on.
    """
    result = Result(case)
    wanted = min(case.rounds, 2) if quick else case.rounds
    with ExitStack() as stack:
        running: dict[str, System] = {}
        for turn in range(rounds or wanted):
            for name in case.systems:
                if name in result.failures:
                    continue
                try:
                    if case.fresh or name == "floor":
                        with _made(case, name, rig) as system:
                            row = case.measure(system, quick=quick)
                    else:
                        if name not in running:
                            running[name] = stack.enter_context(_made(case, name, rig))
                        row = case.measure(running[name], quick=quick)
                except (machine.BenchError, OSError) as error:
                    result.failures[name] = str(error)
                    _tell(f"{case.name}: {name}: {error}")
                    continue
                result.rows.setdefault(name, []).append(row)
                shown = ", ".join(f"{c.heading} {row[c.key]:.{c.digits}f}" for c in case.columns if c.key in row)
                _tell(f"{case.name} {turn + 1}: {name}: {shown}")
    return result


def _made(case: Case, name: str, rig: Rig) -> System:
    system = SYSTEMS[name](rig)
    system.clients_expected = case.floor_clients
    return system


def _tell(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
