"""Emitters in a process that was forked or spawned, and in one that is about to exit."""

from __future__ import annotations

import asyncio
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.processes.hub import environment
from support.processes.redis import RedisProcess
from tidings import AsyncEmitter, Emitter
from tidings.errors import BadConfig
from tidings.models import register
from tidings.redis_client.keys import RedisKeys
from tidings.wire.publication import decode

KEYS = RedisKeys("tidings:")
# An exit handler. Executors refuse work by then, as they do in a thread that outlives the main one.
LATE = """
import asyncio, atexit, tidings
from tidings.errors import Unavailable
emitter = tidings.AsyncEmitter("{url}", timeout_s=1)
async def publish():
    try:
        await emitter.emit("e", 1, channel="a:1")
    except Unavailable as error:
        print(error)
atexit.register(lambda: asyncio.run(publish()))
"""


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisProcess]:
    process = RedisProcess(tmp_path).start()
    with process.client() as client:
        client.hset(KEYS.rules, mapping={"a": "1000 600"})
    yield process
    process.stop()


def ids(redis: RedisProcess, channel: str) -> dict[str, str]:
    """The ids of a channel's publications, by cursor."""
    with redis.client() as client:
        entries = client.xrange(KEYS.stream(channel))
    stored = [decode(channel, fields[b"m"], max_bytes=100_000) for _, fields in entries]
    return {str(item.cursor): item.id for item in stored}


def publish_in_child(emitter: AsyncEmitter, parents_loop: asyncio.AbstractEventLoop) -> None:
    """What a forked process does; ends it with status 0 if all went as it should."""
    status = 1
    try:
        with pytest.raises(BadConfig, match=r"asyncio\.run"):
            parents_loop.run_until_complete(emitter.emit("e", channel="a:1", id="none"))
        for number in range(50):
            assert asyncio.run(emitter.emit("e", channel="a:1", id=f"child-{number}")).id == f"child-{number}"
        status = 0
    finally:
        os._exit(status)


def test_forked_child_reads_no_reply_of_its_parents_event_loop(redis: RedisProcess) -> None:
    emitter, loop = AsyncEmitter(redis.url), asyncio.new_event_loop()
    receipts = [loop.run_until_complete(emitter.emit("e", channel="a:1", id="before"))]
    child = os.fork()
    if child == 0:
        publish_in_child(emitter, loop)
    receipts += [
        loop.run_until_complete(emitter.emit("e", channel="a:1", id=f"parent-{number}")) for number in range(50)
    ]
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    loop.run_until_complete(emitter.close())
    loop.close()
    stored = ids(redis, "a:1")
    assert len(stored) == 101
    assert [stored[receipt.cursor] for receipt in receipts] == [receipt.id for receipt in receipts]


def test_emitter_for_a_spawned_process_may_have_connections(redis: RedisProcess) -> None:
    class Order:
        """No other process knows it."""

    register(Order, channels="orders:1")
    with Emitter(redis.url) as emitter:
        emitter.emit("e", channel="a:1", id="1")
        # As multiprocessing sends its arguments with the start methods `spawn` and `forkserver`.
        with pickle.loads(pickle.dumps(emitter)) as copy:
            copy.emit("e", channel="a:1", id="2")
    assert list(ids(redis, "a:1").values()) == ["1", "2"]


def test_async_emitter_for_a_spawned_process_may_have_connections(redis: RedisProcess) -> None:
    async def publish() -> None:
        async with AsyncEmitter(redis.url) as emitter:
            await emitter.emit("e", channel="a:1", id="1")
            async with pickle.loads(pickle.dumps(emitter)) as copy:
                await copy.emit("e", channel="a:1", id="2")

    asyncio.run(publish())
    assert list(ids(redis, "a:1").values()) == ["1", "2"]


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "amqp://127.0.0.1:1", "socketio+redis://127.0.0.1:1"])
def test_publish_while_python_exits_raises_a_typed_error(url: str) -> None:
    program = LATE.format(url=url)
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True, env=environment()
    )
    assert "use Emitter" in result.stdout, result.stderr
