"""Compare two runs: `python -m bench.compare OLD.json NEW.json`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from bench.case import Column, median
from bench.cases import CASES


def compare(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """One line per case, system and figure that both runs contain: old median, new median and their ratio."""
    lines = []
    for case in CASES:
        for name in case.systems:
            before, after = (run["cases"].get(case.name, {}).get("rounds", {}).get(name) for run in (old, new))
            if before and after:
                lines += [
                    _line(case.name, name, column, before, after) for column in _shared(case.columns, before, after)
                ]
    return lines


def _shared(columns: tuple[Column, ...], *runs: list[dict[str, float]]) -> list[Column]:
    return [column for column in columns if all(column.key in row for rows in runs for row in rows)]


def _line(case: str, name: str, column: Column, before: list[dict[str, float]], after: list[dict[str, float]]) -> str:
    old, new = median(before, column.key), median(after, column.key)
    ratio = f"{new / old:.2f} x" if old else "-"
    digits = column.digits
    return f"{case:24} {name:16} {column.heading:36} {old:14,.{digits}f} {new:14,.{digits}f}  {ratio}"


def main(old: str, new: str) -> None:
    """Print the comparison of two JSON files of `make bench`."""
    runs = [json.loads(Path(path).read_text()) for path in (old, new)]
    sys.stdout.write("\n".join(compare(runs[0], runs[1])) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
