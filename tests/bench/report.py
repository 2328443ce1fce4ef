"""Write results as a Markdown page, as JSON and as plots."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from bench import machine
from bench.case import Result, median, spread
from bench.plot import bars

_PLOTS = "benchmarks"
_HEAD = """# Benchmarks

Written by `make bench`; do not edit. Measured {measured_at}.

- The systems of a case take turns (A B A B) on one machine. The server is pinned to core {server}. The load generator
  (`tests/bench/load.c`), the emitter and Redis are pinned to core {load}.
- Figures are medians, with the minimum and maximum of the rounds in brackets.
- The generator waits for every expected delivery and counts it: "delivered %" below 100 is loss.
- Rates are measured from the first emit to the last delivery.
- The data of a publication is 200 bytes of JSON. No system compresses. Pings are sent every 25 s.

The systems:

- **tidings**: this repository with default settings and a history of 200, which the peers do not have. Its clients
  request no pid, like the SDK. For a stock client that recovers by its pid, add 0.5 KB of memory
  ([stock-clients.md](stock-clients.md)).
- **node**: socket.io on Node, `@socket.io/redis-adapter`, `@socket.io/redis-emitter`, `bufferutil`.
- **python-socketio**: default settings, on eventlet, with `RedisManager`.
- **floor**: a C loop that writes prepared bytes, one `write(2)` per recipient and message. It uses no Redis and no
  emitter.

"""


def markdown(results: Sequence[Result], measured_at: str, commands: Sequence[str]) -> str:
    """The page: goals, a table per case, the machine, the commands."""
    parts = [_HEAD.format(measured_at=measured_at, server=machine.SERVER_CORE, load=machine.LOAD_CORE), _goals(results)]
    parts += [_case(result) for result in results]
    parts.append("## Machine and versions\n\n| component | version |\n|---|---|\n")
    parts += [f"| {name} | {value} |\n" for name, value in machine.describe().items()]
    parts.append("\n## Commands\n\n" + "".join(f"    {command}\n" for command in commands))
    return "".join(parts)


def _goals(results: Sequence[Result]) -> str:
    lines = ["## Goals\n\n| case | goal | measured | |\n|---|---|---|---|\n"]
    for result in results:
        for goal in result.case.goals:
            judgement = goal.judge(result.rows)
            if judgement is None:
                measured, verdict = "did not run", "-"
            else:
                value, is_reached = judgement
                measured = f"{value:,.2f}" + (" x" if goal.against else "")
                verdict = "reached" if is_reached else "**missed**"
            lines.append(f"| {result.case.name} | {goal.text} | {measured} | {verdict} |\n")
    return "".join(lines) + "\n"


def _case(result: Result) -> str:
    case = result.case
    columns = [c for c in case.columns if any(c.key in row for rows in result.rows.values() for row in rows)]
    lines = [f"## {case.name}: {case.title}\n\n{case.description}\n\n"]
    lines.append("| system | rounds | " + " | ".join(c.heading for c in columns) + " |\n")
    lines.append("|---|---|" + "---|" * len(columns) + "\n")
    for name, rows in result.rows.items():
        cells = []
        for column in columns:
            if any(column.key not in row for row in rows):
                cells.append("-")
                continue
            low, high = spread(rows, column.key)
            middle = f"{median(rows, column.key):,.{column.digits}f}"
            cells.append(middle if low == high else f"{middle} ({low:,.{column.digits}f}-{high:,.{column.digits}f})")
        lines.append(f"| {name} | {len(rows)} | " + " | ".join(cells) + " |\n")
    judgements = [goal.judge(result.rows) for goal in case.goals]
    if case.bottleneck and any(judgement and not judgement[1] for judgement in judgements):
        lines.append(f"\nBottleneck: {case.bottleneck}\n")
    if len(result.rows) > 1:
        lines.append(f"\n![{case.name}]({_PLOTS}/{case.name}.svg)\n")
    lines += [f"\n{name} did not run: {reason.strip().splitlines()[-1]}\n" for name, reason in result.failures.items()]
    return "".join(lines) + "\n"


def write(results: Sequence[Result], *, page: Path, data: Path, measured_at: str, commands: Sequence[str]) -> None:
    """Write both files, and a plot for each case with several systems into a folder next to the page."""
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(markdown(results, measured_at, commands))
    plots = page.parent / _PLOTS
    plots.mkdir(exist_ok=True)
    for result in results:
        if len(result.rows) > 1:
            (plots / f"{result.case.name}.svg").write_text(bars(result, result.case.columns[0]))
    content = {
        "when": measured_at,
        "machine": machine.describe(),
        "cases": {result.case.name: {"rounds": result.rows, "failures": result.failures} for result in results},
    }
    data.write_text(json.dumps(content, indent=1) + "\n")
