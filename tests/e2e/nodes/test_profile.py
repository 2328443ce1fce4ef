"""`tidings serve --profile`: the profile names the functions that took the time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from e2e.clients.test_access import call, connect_ready
from support.processes.hub import HubProcess
from support.processes.redis import RedisProcess

MODULE = """
from tidings_hub import App

app = App()


@app.on("busy")
def busy(session, number):
    return sum(n * n for n in range(number))
"""


@pytest.mark.parametrize("kind", ["txt", "json", "html"])
def test_profile_names_a_slow_handler(tmp_path: Path, kind: str) -> None:
    (tmp_path / "realtime.py").write_text(MODULE)
    hub = HubProcess(tmp_path, "--dev", "--app", "realtime", "--profile", f"profile.{kind}")
    try:
        hub.start()
        client, _ = connect_ready(hub, {})
        assert call(client, "busy", 500_000) > 0
        assert hub.terminate() == 0
    finally:
        hub.stop()
    text = (tmp_path / f"profile.{kind}").read_text()
    assert "busy" in text
    if kind == "json":
        assert "busy" in {frame["name"] for frame in json.loads(text)["shared"]["frames"]}
    elif kind == "txt":
        # The handler is below its caller, although greenlets switched in between.
        assert text.index("OrderedPool._work") < text.index("busy")


def test_each_worker_writes_its_own_profile(tmp_path: Path, shared_redis: RedisProcess, prefix: str) -> None:
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
def test_invalid_profile_file_is_rejected_before_the_start(file: str, about: str, tmp_path: Path) -> None:
    from tidings.errors import BadConfig
    from tidings_hub.node.profiler import Profiler

    with pytest.raises(BadConfig, match=about):
        Profiler(tmp_path / file)
