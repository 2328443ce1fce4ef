"""The most important faults under a small load. `make faults` runs all faults under the full load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from faults.__main__ import run
from faults.cases import CASES, Case
from faults.load import SHORT
from support.history import check, lines_of


def without_one_receipt(folder: Path) -> tuple[str, list[Path]]:
    """Remove a client's first receipt from the history; return the expected problem and the files."""
    lines = list(lines_of(folder / "clients-0.jsonl"))
    subscriptions: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for line in lines:
        subscriptions.setdefault((line["who"], line["channel"]), []).append(line)
    # A client whose connection broke after its first receipt recovers, and its second line is not a receipt.
    (client, channel), subscription = next(
        (key, subscription)
        for key, subscription in subscriptions.items()
        if [line["do"] for line in subscription[:3]] == ["subscribed", "got", "got"]
    )
    first = subscription[1]
    tampered = folder / "tampered.jsonl"
    tampered.write_text("".join(json.dumps(line) + "\n" for line in lines if line is not first), encoding="utf-8")
    return f"{client} in {channel}: {first['id']} ", [folder / "backends.jsonl", tampered]


@pytest.mark.timeout(400)
@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES if case.short])
def test_every_loss_is_reported(case: Case, tmp_path: Path) -> None:
    problems, _ = run(case, SHORT, tmp_path)
    assert problems == []
    expected_problem, files = without_one_receipt(tmp_path)
    (problem,) = check(*files, is_complete=True)
    assert problem.startswith(expected_problem)
