"""Run the suite: `make bench`, `make bench CASE=fanout`, or `PYTHONPATH=hub:adapters:tests python -m bench`."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from bench import machine, report
from bench.case import Result, run
from bench.cases import CASES, chosen
from bench.rig import open_rig
from support.signals import raise_on_stop_signals

_ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    """Measure, and write the page and the JSON file. Returns 1 if a measurement failed."""
    parser = argparse.ArgumentParser(prog="bench", description="tidings and its peers side by side")
    parser.add_argument("--case", default="", help=f"one of: {', '.join(case.name for case in CASES)}; or a prefix")
    parser.add_argument("--rounds", type=int, help="rounds of each case, instead of the number in the table of cases")
    parser.add_argument("--quick", action="store_true", help="two short rounds that only show that the suite works")
    parser.add_argument("--page", type=Path, help="where the Markdown page goes")
    parser.add_argument("--data", type=Path, help="where the JSON file goes")
    options = parser.parse_args()
    # A run of a part of the suite must not overwrite the page of the whole suite.
    is_complete = not options.case and not options.quick
    stem = "benchmarks" if is_complete else f"benchmarks-{options.case or 'quick'}"
    folder = _ROOT / "docs" if is_complete else _ROOT / "build"
    page, data = options.page or folder / f"{stem}.md", options.data or folder / f"{stem}.json"
    began_s = time.monotonic()
    if len(os.sched_getaffinity(0)) > 1:
        os.sched_setaffinity(0, {machine.LOAD_CORE})
    measured_at = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    commands = ["make bench" + (f" CASE={options.case}" if options.case else "")]
    results: list[Result] = []
    with open_rig() as rig:
        for case in chosen(options.case):
            case_began_s = time.monotonic()
            results.append(run(case, rig, rounds=options.rounds, quick=options.quick))
            sys.stderr.write(f"{case.name}: {time.monotonic() - case_began_s:.0f} s\n")
            # Written after each case, so an interrupted run keeps its results.
            report.write(results, page=page, data=data, measured_at=measured_at, commands=commands)
    sys.stderr.write(f"{time.monotonic() - began_s:.0f} s; {page}, {data}\n")
    return 1 if any(result.failures for result in results) else 0


if __name__ == "__main__":
    raise_on_stop_signals()
    sys.exit(main())
