"""A recovery is complete or `recovered: false`; a connected client receives every publication or `tidings:gap`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "tests/support/programs/recovery_model.py"


def test_clients_miss_nothing_without_a_notice() -> None:
    folders = os.pathsep.join(str(ROOT / folder) for folder in ("hub", "adapters", "tests"))
    seed = str(int.from_bytes(os.urandom(2), "big"))
    programs = [
        subprocess.Popen(
            [sys.executable, str(PROGRAM), kind, seed, "4"],
            env=os.environ | {"PYTHONPATH": folders},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for kind in ("redis", "memory")
    ]
    reports = [program.communicate(timeout=100)[1] for program in programs]
    for program, report in zip(programs, reports, strict=True):
        assert program.returncode == 0, f"seed {seed}:\n{report[-4000:]}"
