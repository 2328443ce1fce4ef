"""The emitter under gevent and eventlet, patched by the program and not: it patches nothing itself."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.network.http_hub import API_KEY, HttpHub, stall
from support.processes.redis import RedisProcess
from tidings.redis_client.keys import RedisKeys

# How each library spells the same three things.
GEVENT = """
import gevent, gevent.pool
def together(jobs):
    group = gevent.pool.Group()
    lets = [group.spawn(job) for job in jobs]
    group.join(raise_error=True)
    return [let.value for let in lets]
sleep = gevent.sleep
"""
EVENTLET = """
import eventlet
def together(jobs):
    lets = [eventlet.spawn(job) for job in jobs]
    return [let.wait() for let in lets]
sleep = eventlet.sleep
"""
PATCHED = {
    "gevent": "from gevent import monkey; monkey.patch_all()\n" + GEVENT,
    "eventlet": "import eventlet; eventlet.monkey_patch()\n" + EVENTLET,
}
UNPATCHED = {"gevent": GEVENT, "eventlet": EVENTLET}

EMIT = """
import sys
from tidings.emitter import Emitter
url, api_key = sys.argv[1], sys.argv[2] or None
emitter = Emitter(url, api_key=api_key, timeout_s=10)
receipts = together([lambda n=n: emitter.emit("e", n, channel="a:1") for n in range(40)])
with emitter.batch() as batch:
    batch.emit("e", 40, channel="a:1")
assert len({receipt.cursor for receipt in receipts}) == 40, receipts
assert len(batch.results) == 1
emitter.close()
print("done")
"""

# While one greenlet waits for an answer that does not come, another goes on.
WAIT = """
import sys
from tidings.emitter import Emitter
from tidings.errors import Unavailable
emitter = Emitter(sys.argv[1], api_key=sys.argv[2] or None, timeout_s=1.0)
ticks = []
def emit():
    try:
        emitter.emit("e", 1, channel="a:1")
    except Unavailable:
        ticks.append("over")
def tick():
    while "over" not in ticks and len(ticks) < 1000:
        ticks.append(1)
        sleep(0.01)
together([emit, tick])
emitter.close()
assert len(ticks) > 20, ticks
assert "over" in ticks, ticks
print("done")
"""


def run(program: str, url: str, api_key: str) -> None:
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, url, api_key],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.stdout == "done\n", result.stderr


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisProcess]:
    server = RedisProcess(tmp_path).start()
    with server.client() as client:
        client.hset(RedisKeys("tidings:").rules, "a", "100 600")
    yield server
    server.stop()


@pytest.mark.parametrize("library", ["gevent", "eventlet"])
class TestGreenlets:
    @pytest.mark.parametrize("world", [PATCHED, UNPATCHED], ids=["patched", "unpatched"])
    def test_redis(self, server: RedisProcess, library: str, world: dict[str, str]) -> None:
        run(world[library] + EMIT, server.url, "")
        with server.client() as client:
            assert client.xlen(RedisKeys("tidings:").stream("a:1")) == 41

    @pytest.mark.parametrize("world", [PATCHED, UNPATCHED], ids=["patched", "unpatched"])
    def test_http(self, library: str, world: dict[str, str]) -> None:
        with HttpHub() as hub:
            run(world[library] + EMIT, hub.url, API_KEY)
            assert sorted(hub.published("a:1")) == list(range(41))

    def test_waiting_for_redis_lets_others_run(self, library: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            run(PATCHED[library] + WAIT, f"redis://127.0.0.1:{silent.getsockname()[1]}/0", "")

    def test_waiting_for_http_lets_others_run(self, library: str) -> None:
        with HttpHub() as hub:
            hub.faults.extend([stall] * 10)
            run(PATCHED[library] + WAIT, hub.url, API_KEY)
