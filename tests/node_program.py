"""Programs of tests/emitters on Node: each prints one JSON object a line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent / "emitters"


def node(name: str) -> list[str]:
    """The command that runs one of these programs; needs Node and `make setup`."""
    program = shutil.which("node")
    if program is None or not (FOLDER / "node_modules").is_dir():
        if os.environ.get("CI"):
            raise AssertionError("node, or tests/emitters/node_modules, is not installed")
        pytest.skip("node, or tests/emitters/node_modules, is not installed")
    return [program, str(FOLDER / name)]


def run(name: str, options: object) -> list[dict[str, Any]]:
    """What the program prints until it ends."""
    done = subprocess.run([*node(name), json.dumps(options)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
