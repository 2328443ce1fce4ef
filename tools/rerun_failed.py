"""Runs the tests that failed in the last run once more, one after another, and lists those that pass now.

A test that fails among the others and passes alone depends on the load of the machine. That is a defect of the test:
the list names it, but it does not stop a change that has nothing to do with it. Random models (`tests/fuzz`) are never
run again: another seed would hide what the first one showed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

LAST_FAILED = ".pytest_cache/v/cache/lastfailed"
# More failures than this are no coincidence.
FAILURES_MAX = 4
NEVER_AGAIN = "tests/fuzz/"


def refusal(failed: list[str]) -> str | None:
    """Why these tests are not run again, if so."""
    if not failed:
        return "pytest lists no failed test"
    if len(failed) > FAILURES_MAX:
        return f"{len(failed)} tests failed; only up to {FAILURES_MAX} are run again"
    random_models = [test for test in failed if test.startswith(NEVER_AGAIN)]
    return f"random models are not run again: {', '.join(random_models)}" if random_models else None


def main(root: Path) -> int:
    """Run them again in the checkout `root`. Returns 0 if all pass."""
    last_failed = root / LAST_FAILED
    failed = sorted(json.loads(last_failed.read_text())) if last_failed.exists() else []
    reason = refusal(failed)
    if reason is not None:
        print(reason, file=sys.stderr)
        return 1
    print(f"\n{len(failed)} failed: once more, one after another", flush=True)
    code = subprocess.run([sys.executable, "-m", "pytest", "-n0", *failed], cwd=root, check=False).returncode
    if code == 0:
        print("These tests failed among the others and passed alone. Each is a defect to mend:")
        print("\n".join(f"  {test}" for test in failed))
    return code


if __name__ == "__main__":
    sys.exit(main(Path.cwd()))
