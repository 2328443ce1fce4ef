"""`make test` runs few failed tests once more, and never a random model."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "tools/rerun_failed.py"
# Fails in its first run and passes in its second.
FIRST_RUN_FAILS = """
from pathlib import Path
def test_second_run_passes():
    marker = Path(__file__).with_suffix(".ran")
    ran = marker.exists()
    marker.touch()
    assert ran
"""
FAILS = "def test_fails():\n    assert False\n"


def make_test(root: Path, files: dict[str, str]) -> subprocess.CompletedProcess[str]:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\n")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    first = subprocess.run([sys.executable, "-m", "pytest", "-n0"], cwd=root, env=environ, check=False)
    assert first.returncode == 1
    return subprocess.run([sys.executable, PROGRAM], cwd=root, env=environ, capture_output=True, text=True, check=False)


def test_test_that_passes_alone_is_listed_as_a_defect(tmp_path: Path) -> None:
    again = make_test(tmp_path, {"tests/test_load.py": FIRST_RUN_FAILS})
    assert again.returncode == 0, again
    assert "Each is a defect to mend:\n  tests/test_load.py::test_second_run_passes" in again.stdout


@pytest.mark.parametrize(
    "files",
    [
        {"tests/test_load.py": FIRST_RUN_FAILS, "tests/test_broken.py": FAILS},
        {"tests/test_load.py": FIRST_RUN_FAILS, "tests/fuzz/test_model.py": FIRST_RUN_FAILS},
        {f"tests/test_load_{number}.py": FIRST_RUN_FAILS for number in range(5)},
    ],
    ids=["one fails again", "a random model failed", "many failed"],
)
def test_run_fails(tmp_path: Path, files: dict[str, str]) -> None:
    assert make_test(tmp_path, files).returncode == 1
