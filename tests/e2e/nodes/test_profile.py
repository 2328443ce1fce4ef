"""`tidings serve --profile`: it shows whose code took the time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from e2e.clients.test_access import ask, joined
from support.processes.hub import HubProcess
from support.processes.redis import RedisProcess

MODULE = """
from tidings_hub import App

app = App()


@app.on("busy")
def busy(session, number):
    return sum(each * each for each in range(number))
"""


@pytest.mark.parametrize("kind", ["txt", "json", "html"])
def test_a_profile_names_the_handler_that_took_the_time(tmp_path: Path, kind: str) -> None:
    (tmp_path / "realtime.py").write_text(MODULE)
    hub = HubProcess(tmp_path, "--dev", "--app", "realtime", "--profile", f"profile.{kind}")
    try:
        hub.start()
        hub_process, _ = joined(hub, {})
        assert ask(hub_process, "busy", 500_000) > 0
        assert hub.terminate() == 0
    finally:
        hub.stop()
    text = (tmp_path / f"profile.{kind}").read_text()
    assert "busy" in text
    if kind == "json":
        assert "busy" in {frame["name"] for frame in json.loads(text)["shared"]["frames"]}
    elif kind == "txt":
        # Below what called it, though greenlets took turns.
        assert text.index("OrderedPool._work") < text.index("busy")


def test_each_worker_writes_its_own(tmp_path: Path, shared_redis: RedisProcess, prefix: str) -> None:
    hub = HubProcess(
        tmp_path,
        *("--workers", "2", "--profile", "profile.txt"),
        extra=f'broker = "{shared_redis.url}"\nprefix = "{prefix}"\ndrain_notice_s = 0.0\n',
    )
    try:
        hub.start()
        assert hub.terminate() == 0
    finally:
        hub.stop()
    assert sorted(path.name for path in tmp_path.glob("profile*")) == ["profile-0.txt", "profile-1.txt"]


@pytest.mark.parametrize(
    ("file", "about"), [("profile.pdf", ".html, .json, .txt"), ("no/such/folder.txt", "cannot write")]
)
def test_an_impossible_profile_file_is_rejected_before_the_start(file: str, about: str, tmp_path: Path) -> None:
    from tidings.errors import BadConfig
    from tidings_hub.node.profiler import Profiler

    with pytest.raises(BadConfig, match=about):
        Profiler(tmp_path / file)
