"""Programs that tests start. If one is missing, the test is skipped on a laptop and fails if `CI` is set."""

from __future__ import annotations

import os
import shutil

import pytest


def program(name: str) -> str:
    """Return the path of a program."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if path is None:
        if os.environ.get("CI"):
            pytest.fail(f"{name} is not installed; .ci/install installs it")
        pytest.skip(f"{name} is not installed")
    return path
