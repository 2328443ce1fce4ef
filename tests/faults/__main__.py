"""`make faults`: every fault under the full load, with one line each, and the history of a failed one.

python -m faults                         all faults
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
    """Run one fault; return its problems and the outcome. An error during the fault counts as a problem."""
    scene = Scene(folder, load, case.setting)
    try:
        try:
            case.inject(scene)
            errors = []
        except (AssertionError, OSError) as error:
            errors = [f"{type(error).__name__}: {error}"]
        outcome = scene.finish()
        return [*errors, *outcome.problems, *case.violations(scene, outcome)], outcome
    finally:
        scene.close()


def row(case: Case, outcome: Outcome, problems: list[str]) -> str:
    """One line of the table."""
    figures = outcome.figures
    gaps = figures.unrecovered
    columns = [
        f"{case.name:<17}",
        "ok  " if not problems else "FAIL",
        f"{outcome.acked:>6}",
        f"{outcome.refused:>5}",
        f"{figures.receipts:>7}",
        f"{figures.returns // 3:>6}",
        f"{gaps['load']:>5}",
        f"{gaps['brief']:>5}",
        f"{quantile_ms(figures.silence_s, 0.5):>7.0f}",
        f"{quantile_ms(figures.silence_s, 0.99):>7.0f}",
        f"{quantile_ms(figures.silence_s, 1.0):>7.0f}",
        f"{quantile_ms(figures.delay_s, 1.0):>7.0f}",
    ]
    return " | ".join(columns)


_HEAD = """\
gaps: gaps in channels with a long history; brief: in channels with a short one; silence: longest of a client, in ms;
delay: longest time from publish to delivery, in ms
fault             |      | acked  | errors| receipts| reconn | gaps  | brief | sil p50 |     p99 |     max | delay max
"""


def cpu(outcome: Outcome) -> str:
    """CPU usage by process, and the cost of a publication in Redis."""
    used = outcome.cpu_s
    parts = [f"{name} {100 * spent / outcome.load_s:.0f} %" for name, spent in sorted(used.items())]
    if "redis" in used and outcome.acked:
        parts.append(f"Redis {1e6 * used['redis'] / outcome.acked:.0f} us/publication")
    return "    of a core: " + ", ".join(parts)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m faults", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="fault", help=", ".join(case.name for case in CASES))
    parser.add_argument("--short", action="store_true", help="small load, short times")
    parser.add_argument("--times", type=int, default=1, help="how often to run all of them")
    parser.add_argument("--keep", action="store_true", help="keep the history and the logs of every fault")
    parser.add_argument("--scale", action="store_true", help="measure scale instead")
    options = parser.parse_args()
    if options.scale:
        sys.stdout.write(table())
        return 0
    unknown = set(options.names) - {case.name for case in CASES}
    if unknown:
        parser.error(f"no such fault: {', '.join(sorted(unknown))}")
    cases = [case for case in CASES if not options.names or case.name in options.names]
    load = SHORT if options.short else FULL
    failed = 0
    sys.stdout.write(_HEAD)
    for turn in range(options.times):
        for case in cases:
            folder = Path(tempfile.mkdtemp(prefix=f"tidings-faults-{case.name}-{turn}-"))
            problems, outcome = run(case, load, folder)
            sys.stdout.write(row(case, outcome, problems) + "\n" + cpu(outcome) + "\n")
            for problem in problems[:_SHOWN_MAX]:
                sys.stdout.write(f"    {problem}\n")
            sys.stdout.flush()
            failed += bool(problems)
            if problems or options.keep:
                sys.stdout.write(f"    {len(problems)} problems; history and logs: {folder}\n")
            else:
                shutil.rmtree(folder)
    return 1 if failed else 0


if __name__ == "__main__":
    raise_on_stop_signals()
    sys.exit(main())
