"""The brokers as a hub runs them: the standard library patched, every thread a greenlet.

The contract and the faults run once more, in a process that patches before it imports anything else.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_PATCHED = """
import sys
from tidings_hub import runtime
runtime.patch()
import pytest
sys.exit(pytest.main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("file", "chosen"),
    [
        ("test_broker_contract.py", ""),
        ("test_redis_faults.py", ""),
        ("doubts", ""),
        ("test_cluster.py", "TestFaults or resumes or publish_together"),
    ],
)
def test_brokers_work_with_threads_as_greenlets(file: str, chosen: str) -> None:
    test_folder = Path(__file__).parent
    root = test_folder.parents[1]
    environ = os.environ | {
        "PYTHONPATH": os.pathsep.join(str(root / folder) for folder in ("hub", "adapters", "tests"))
    }
    command = [sys.executable, "-c", _PATCHED, "-q", "-p", "no:cacheprovider", "-k", chosen, str(test_folder / file)]
    result = subprocess.run(command, cwd=root, env=environ, capture_output=True, text=True, timeout=115, check=False)
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-3000:]
    assert " passed" in result.stdout
