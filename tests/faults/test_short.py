"""The most telling faults under a small load; `make faults` has all of them under the full one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from faults.__main__ import run
from faults.cases import CASES, Case
from faults.load import SHORT
from support.history import check, lines_of


def without_one_receipt(folder: Path) -> tuple[str, list[Path]]:
    """The history as if a client had not got the first of two publications; who that is, and the files."""
    history = folder / "clients-0.jsonl"
    lines = list(lines_of(history))
    first = next(line for line in lines if line["do"] == "got")
    where = first["who"], first["channel"]
    received = [line for line in lines if (line["who"], line["channel"]) == where]
    assert [line["do"] for line in received[:3]] == ["subscribed", "got", "got"]
    tampered = folder / "tampered.jsonl"
    tampered.write_text("".join(json.dumps(line) + "\n" for line in lines if line is not first), encoding="utf-8")
    return f"{where[0]} in {where[1]}: {first['id']} ", [folder / "backends.jsonl", tampered]


@pytest.mark.timeout(400)
@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES if case.short])
def test_nothing_is_lost_in_silence(case: Case, tmp_path: Path) -> None:
    problems, _ = run(case, SHORT, tmp_path)
    assert problems == []
    who, files = without_one_receipt(tmp_path)
    (problem,) = check(*files, is_complete=True)
    assert problem.startswith(who)
