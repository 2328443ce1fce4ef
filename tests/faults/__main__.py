"""`make faults`: every fault under the full load, one line each, and the history of what went wrong.

python -m faults                         all of them
python -m faults kill-node rolling-restart --times 3
python -m faults --short                 the load and the times of `make test`
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from faults.cases import CASES, Case
from faults.figures import quantile_ms
from faults.load import FULL, SHORT, Load
from faults.scale import table
from faults.scene import Outcome, Scene
from support.signals import raise_on_stop_signals

_SHOWN_MAX = 20


def run(case: Case, load: Load, folder: Path) -> tuple[list[str], Outcome]:
    """One fault; returns what is wrong. A fault that could not be gone through with ends in the same way."""
    scene = Scene(folder, load, case.setting)
    try:
        try:
            case.do(scene)
            stuck = []
        except (AssertionError, OSError) as error:
            stuck = [f"{type(error).__name__}: {error}"]
        outcome = scene.settle()
        return [*stuck, *outcome.problems, *case.breaches(scene, outcome)], outcome
    finally:
        scene.close()


def row(case: Case, outcome: Outcome, problems: list[str]) -> str:
    """One line of the table."""
    figures = outcome.figures
    unrecovered = figures.unrecovered
    columns = [
        f"{case.name:<17}",
        "ok  " if not problems else "FAIL",
        f"{outcome.acked:>6}",
        f"{outcome.refused:>5}",
        f"{figures.receipts:>7}",
        f"{figures.returns // 3:>6}",
        f"{unrecovered['load']:>5}",
        f"{unrecovered['brief']:>5}",
        f"{quantile_ms(figures.silence_s, 0.5):>7.0f}",
        f"{quantile_ms(figures.silence_s, 0.99):>7.0f}",
        f"{quantile_ms(figures.silence_s, 1.0):>7.0f}",
        f"{quantile_ms(figures.way_s, 1.0):>7.0f}",
    ]
    return " | ".join(columns)


_HEAD = """\
told: times that a client was told of a gap in a channel with a long history; gap: longest silence of a client, in ms
fault             |      | acked  | errors| receipts|returns | told  | brief | gap p50 |     p99 |     max | way max
"""


def cpu(outcome: Outcome) -> str:
    """Who used how much of a core, and Redis' part of a publication."""
    used = outcome.cpu_s
    parts = [f"{name} {100 * spent / outcome.load_s:.0f} %" for name, spent in sorted(used.items())]
    if "redis" in used and outcome.acked:
        parts.append(f"Redis {1e6 * used['redis'] / outcome.acked:.0f} us/publication")
    return "    of a core: " + ", ".join(parts)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m faults", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="fault", help=", ".join(case.name for case in CASES))
    parser.add_argument("--short", action="store_true", help="small load, short times")
    parser.add_argument("--times", type=int, default=1, help="how often, all in a row")
    parser.add_argument("--keep", action="store_true", help="keep the history and the logs in any case")
    parser.add_argument("--scale", action="store_true", help="measure scale instead")
    arguments = parser.parse_args()
    if arguments.scale:
        sys.stdout.write(table())
        return 0
    unknown = set(arguments.names) - {case.name for case in CASES}
    if unknown:
        parser.error(f"no such fault: {', '.join(sorted(unknown))}")
    cases = [case for case in CASES if not arguments.names or case.name in arguments.names]
    load = SHORT if arguments.short else FULL
    failed = 0
    sys.stdout.write(_HEAD)
    for turn in range(arguments.times):
        for case in cases:
            folder = Path(tempfile.mkdtemp(prefix=f"tidings-faults-{case.name}-{turn}-"))
            problems, outcome = run(case, load, folder)
            sys.stdout.write(row(case, outcome, problems) + "\n" + cpu(outcome) + "\n")
            for problem in problems[:_SHOWN_MAX]:
                sys.stdout.write(f"    {problem}\n")
            sys.stdout.flush()
            failed += bool(problems)
            if problems or arguments.keep:
                sys.stdout.write(f"    {len(problems)} problems; history and logs: {folder}\n")
            else:
                shutil.rmtree(folder)
    return 1 if failed else 0


if __name__ == "__main__":
    raise_on_stop_signals()
    sys.exit(main())
