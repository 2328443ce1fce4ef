"""Results as a Markdown page and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from bench import machine
from bench.case import Result, median, spread
from bench.plot import bars

_PLOTS = "benchmarks"
_HEAD = """# Benchmarks

Written by `make bench`; do not edit. {when}.

Each case runs its systems in turn (A B A B) on one machine: the server pinned to core {server}; the load generator
(`tests/bench/load.c`), the emitter and Redis pinned to core {load}. Figures are medians, with the least and the most of
the rounds in brackets. Every expected delivery is waited for and counted: "delivered %" below 100 is loss. The data of
a publication is 200 bytes of JSON. Nobody compresses; pings every 25 s. Rates count from the first emit to the last
delivery.

- **tidings**: this repository, default settings but a history of 200 (which the peers do not have). Its clients ask for
  no pid, as the SDK asks for none; a stock client that may return by its pid costs 0.5 KB more (docs/stock-clients.md).
- **node**: socket.io on Node, `@socket.io/redis-adapter`, `@socket.io/redis-emitter`, `bufferutil`.
- **python-socketio**: as it comes, on eventlet, with `RedisManager`.
- **floor**: a C loop that writes ready bytes, one `write(2)` per recipient and message; no Redis, no emitter.

"""


def markdown(results: Sequence[Result], when: str, commands: Sequence[str]) -> str:
    """The page: goals first, then a table per case, then machine and commands."""
    parts = [_HEAD.format(when=when, server=machine.SERVER_CORE, load=machine.LOAD_CORE), _goals(results)]
    parts += [_case(result) for result in results]
    parts.append("## Machine and versions\n\n| what | version |\n|---|---|\n")
    parts += [f"| {name} | {value} |\n" for name, value in machine.describe().items()]
    parts.append("\n## Commands\n\n" + "".join(f"    {command}\n" for command in commands))
    return "".join(parts)


def _goals(results: Sequence[Result]) -> str:
    lines = ["## What it must reach\n\n| case | must reach | measured | |\n|---|---|---|---|\n"]
    for result in results:
        for goal in result.case.goals:
            judged = goal.judge(result.rows)
            measured = "did not run" if judged is None else f"{judged[0]:,.2f}" + (" x" if goal.against else "")
            verdict = "-" if judged is None else "reached" if judged[1] else "**missed**"
            lines.append(f"| {result.case.name} | {goal.text} | {measured} | {verdict} |\n")
    return "".join(lines) + "\n"


def _case(result: Result) -> str:
    case = result.case
    shown = [c for c in case.columns if any(c.key in row for rows in result.rows.values() for row in rows)]
    lines = [f"## {case.name}: {case.title}\n\n{case.how}\n\n"]
    lines.append("| system | rounds | " + " | ".join(c.heading for c in shown) + " |\n")
    lines.append("|---|---|" + "---|" * len(shown) + "\n")
    for name, rows in result.rows.items():
        cells = []
        for column in shown:
            if any(column.key not in row for row in rows):
                cells.append("-")
                continue
            low, high = spread(rows, column.key)
            middle = f"{median(rows, column.key):,.{column.digits}f}"
            cells.append(middle if low == high else f"{middle} ({low:,.{column.digits}f}-{high:,.{column.digits}f})")
        lines.append(f"| {name} | {len(rows)} | " + " | ".join(cells) + " |\n")
    if case.limit and any(judged and not judged[1] for judged in (goal.judge(result.rows) for goal in case.goals)):
        lines.append(f"\nWhat is in the way: {case.limit}\n")
    if len(result.rows) > 1:
        lines.append(f"\n![{case.name}]({_PLOTS}/{case.name}.svg)\n")
    lines += [f"\n{name} did not run: {reason.strip().splitlines()[-1]}\n" for name, reason in result.failures.items()]
    return "".join(lines) + "\n"


def write(results: Sequence[Result], *, page: Path, data: Path, when: str, commands: Sequence[str]) -> None:
    """Writes both files, and a plot beside the page for each case with several systems."""
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(markdown(results, when, commands))
    plots = page.parent / _PLOTS
    plots.mkdir(exist_ok=True)
    for result in results:
        if len(result.rows) > 1:
            (plots / f"{result.case.name}.svg").write_text(bars(result, result.case.columns[0]))
    content = {
        "when": when,
        "machine": machine.describe(),
        "cases": {result.case.name: {"rounds": result.rows, "failures": result.failures} for result in results},
    }
    data.write_text(json.dumps(content, indent=1) + "\n")
