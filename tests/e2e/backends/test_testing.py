"""The pytest plugin in a separate run of pytest with a real hub, as users have it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from support.processes.hub import ROOT, environment
from tidings.emitter import Emitter
from tidings.errors import Unavailable
from tidings.testing import HubProcess

MODULE = (
    "from tidings_hub import App\napp = App()\n@app.on('double')\ndef double(session, number):\n    return 2 * number\n"
)


def run(folder: Path, *, without: str = "") -> subprocess.CompletedProcess[str]:
    env = environment()
    if without:
        # Simulate an installation without `tidings[server]`: importing one of its packages fails.
        (folder / "missing").mkdir()
        (folder / "missing" / f"{without}.py").write_text(f"raise ModuleNotFoundError('no', name={without!r})")
        env["PYTHONPATH"] = f"{folder / 'missing'}:{env['PYTHONPATH']}"
    # Declare the entry points as an installed wheel does.
    plugins = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]
    dist_info = folder / "installed" / "tidings_of_the_tests-1.dist-info"
    dist_info.mkdir(parents=True)
    (dist_info / "METADATA").write_text("Metadata-Version: 2.1\nName: tidings-of-the-tests\nVersion: 1\n")
    points = "".join(f"{name} = {module}\n" for name, module in plugins.items())
    (dist_info / "entry_points.txt").write_text(f"[pytest11]\n{points}")
    env["PYTHONPATH"] += f":{dist_info.parent}"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=100, check=False)


def write_program(folder: Path, name: str) -> None:
    """Write a program of the documentation to a file; its first line names it."""
    text = (ROOT / "docs" / "testing.md").read_text()
    match = re.search(rf"```python\n# {re.escape(name)}\n(.*?)```", text, re.DOTALL)
    assert match is not None
    (folder / name).write_text(match[1])


def test_the_programs_in_the_documentation_work(tmp_path: Path) -> None:
    for name in ("shop.py", "test_shop.py", "conftest.py", "test_browser.py"):
        write_program(tmp_path, name)
    (tmp_path / "realtime.py").write_text(MODULE)
    result = run(tmp_path)
    assert result.returncode == 0, result.stdout
    assert "4 passed" in result.stdout


def test_hub_fixture_fails_without_server_extra(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(
        "def test_plain(): pass\ndef test_fake(tidings_fake): tidings_fake.assert_nothing_pushed()\n"
        "def test_real(tidings_hub): pass\n"
    )
    result = run(tmp_path, without="eventlet")
    assert "2 passed, 1 error" in result.stdout, result.stdout + result.stderr
    assert "pip install 'tidings[server]'" in result.stdout


def test_hub_that_cannot_start_reports_the_cause_and_leaves_no_files() -> None:
    hub = HubProcess("--app", "no_such_module")
    with pytest.raises(Unavailable, match="no module no_such_module"):
        hub.start()
    hub.close()
    assert not hub.log.exists()


def test_hub_can_be_stopped_and_started_again() -> None:
    hub = HubProcess(settings={"publication_max_bytes": 1000})
    for _ in range(2):
        hub.start()
        with hub.emitter() as emitter:
            assert emitter.emit("x", 1, channel="demo:a").cursor
        hub.stop()
        with Emitter(hub.url, timeout_s=0.3) as emitter, pytest.raises(Unavailable):
            emitter.emit("x", 1, channel="demo:a")
    hub.close()
