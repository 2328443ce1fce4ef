"""The pytest plugin as users have it: a run of pytest of its own, with a real hub."""

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
        # As where `tidings[server]` is not installed: importing one of its packages fails.
        (folder / "missing").mkdir()
        (folder / "missing" / f"{without}.py").write_text(f"raise ModuleNotFoundError('no', name={without!r})")
        env["PYTHONPATH"] = f"{folder / 'missing'}:{env['PYTHONPATH']}"
    # As an installation of the wheel would say it.
    plugins = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]
    described = folder / "installed" / "tidings_of_the_tests-1.dist-info"
    described.mkdir(parents=True)
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: tidings-of-the-tests\nVersion: 1\n")
    points = "".join(f"{name} = {module}\n" for name, module in plugins.items())
    (described / "entry_points.txt").write_text(f"[pytest11]\n{points}")
    env["PYTHONPATH"] += f":{described.parent}"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=100, check=False)


def program(folder: Path, name: str) -> None:
    """A program of the documentation, by its first line."""
    text = (ROOT / "docs" / "testing.md").read_text()
    found = re.search(rf"```python\n# {re.escape(name)}\n(.*?)```", text, re.DOTALL)
    assert found is not None
    (folder / name).write_text(found[1])


def test_the_programs_in_the_documentation_work(tmp_path: Path) -> None:
    for name in ("shop.py", "test_shop.py", "conftest.py", "test_browser.py"):
        program(tmp_path, name)
    (tmp_path / "realtime.py").write_text(MODULE)
    done = run(tmp_path)
    assert done.returncode == 0, done.stdout
    assert "4 passed" in done.stdout


def test_without_the_server_only_who_asks_for_a_hub_fails(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(
        "def test_plain(): pass\ndef test_fake(tidings_fake): tidings_fake.assert_nothing_pushed()\n"
        "def test_real(tidings_hub): pass\n"
    )
    done = run(tmp_path, without="eventlet")
    assert "2 passed, 1 error" in done.stdout, done.stdout + done.stderr
    assert "pip install 'tidings[server]'" in done.stdout


def test_a_hub_that_cannot_start_says_why_and_leaves_nothing() -> None:
    hub = HubProcess("--app", "no_such_module")
    with pytest.raises(Unavailable, match="no module no_such_module"):
        hub.start()
    hub.close()
    assert not hub.log.exists()


def test_it_is_stopped_by_its_process_id_and_starts_again() -> None:
    hub = HubProcess(settings={"publication_max_bytes": 1000})
    for _ in range(2):
        hub.start()
        with hub.emitter() as emitter:
            assert emitter.emit("x", 1, channel="demo:a").cursor
        hub.stop()
        with Emitter(hub.url, timeout_s=0.3) as emitter, pytest.raises(Unavailable):
            emitter.emit("x", 1, channel="demo:a")
    hub.close()
