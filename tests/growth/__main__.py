"""`make growth`: hostile clients for an hour, with a line a minute, and the judgement at the end.

python -m growth --hours 1
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from growth.attacks import ATTACKS
from growth.bounds import history_problems, violations
from growth.target import Figures, Target
from support.signals import raise_on_stop_signals

_ACTS = 200
# Ids, sessions and histories live for up to 300 s. The first figures that count are those after this time.
_WARM_SHARE = 0.25
_SETTLE_S = 330.0
# Keys of these kinds live for at most `_LIFE_S`. No round makes more of a kind than two of its attacks act.
_BRIEF_KINDS = ("s", "session", "i")
_LIFE_S = 310.0
_KEYS_PER_ROUND = 2 * _ACTS
# What a node that is as busy as before may need more: fragments of the allocator.
_RSS_SLACK = 1.2


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def run(target: Target, hours: float) -> list[str]:
    """Attack for so long, then wait until everything that ends by time has ended. Returns what has grown."""
    start_s = time.monotonic()
    end_s, warm_s = start_s + hours * 3600, start_s + hours * 3600 * _WARM_SHARE
    warm: list[Figures] = []
    problems: list[str] = []
    acts, line_at_s = 0, start_s
    rounds_s: list[float] = []
    while time.monotonic() < end_s:
        rounds_s = [*(at_s for at_s in rounds_s if at_s > time.monotonic() - _LIFE_S), time.monotonic()]
        for attack in ATTACKS:
            attack(target.hub.port, _ACTS)
        acts += _ACTS * (time.monotonic() >= warm_s)
        if time.monotonic() >= line_at_s:
            line_at_s += 60
            figures = target.figures()
            if time.monotonic() < warm_s:
                warm.append(figures)
            problems += _too_many(figures, _KEYS_PER_ROUND * (len(rounds_s) + 1)) + history_problems(figures)
            say(f"{(time.monotonic() - start_s) / 60:6.1f} min  {figures.line()}")
    time.sleep(_SETTLE_S)
    last = target.figures()
    say(f"at rest     {last.line()}")
    # One entry in ten acts is too much here.
    problems += violations(target, warm[-1], last, acts // 5)
    if last.rss_bytes > _RSS_SLACK * max(figures.rss_bytes for figures in warm):
        problems.append(f"the node has {last.rss_bytes} bytes")
    say(f"{acts} acts of each kind after the first {hours * _WARM_SHARE:.2f} hours: {problems or 'nothing grew'}")
    return problems


def _too_many(figures: Figures, keys_max: int) -> list[str]:
    """Kinds of which there are more keys than acts within their life."""
    return [
        f"{figures.keys[kind]} keys of the kind {kind!r}, at most {keys_max} were made within their life"
        for kind in _BRIEF_KINDS
        if figures.keys[kind] > keys_max
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m growth", description=__doc__)
    parser.add_argument("--hours", type=float, default=1.0)
    arguments = parser.parse_args()
    raise_on_stop_signals()
    with tempfile.TemporaryDirectory(prefix="tidings-growth-") as folder:
        target = Target(Path(folder), brief=False)
        try:
            return 1 if run(target, arguments.hours) else 0
        finally:
            target.close()


if __name__ == "__main__":
    sys.exit(main())
