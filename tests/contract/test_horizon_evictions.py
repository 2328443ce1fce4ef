"""What Redis evicted is never taken for "nothing was published", also if `CONFIG RESETSTAT` hides the eviction."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.exceptions import ResponseError

from contract.broker_contract import outgoing
from contract.test_horizon import KEYS, SELDOM, Node
from support.history import Recorder, check
from support.processes.redis import RedisProcess
from support.waiting import wait_until
from tidings.redis_client.scripts import load_script
from tidings.wire.cursor import Cursor

GONE, QUIET = "gone:1", "orders:quiet"


@pytest.fixture
def node(redis: RedisProcess, tmp_path: Path) -> Iterator[Node]:
    recorder = Recorder(tmp_path / "history.jsonl")
    node = Node(redis, recorder, SELDOM)
    yield node
    node.broker.stop()
    node.redis.close()
    recorder.close()
    assert check(recorder.path) == []


@pytest.fixture
def start(node: Node) -> Cursor:
    """A cursor after which something was published in `gone:1`, and nothing in `orders:quiet`."""
    start = node.publish("orders:other")
    node.publish(GONE)
    assert node.has_recovered(QUIET, start)
    return start


def evict_all(node: Node, channel: str = GONE) -> None:
    node.redis.config_set("maxmemory-policy", "volatile-ttl")
    node.redis.config_set("maxmemory", 1)
    wait_until(lambda: not node.redis.exists(KEYS.pointer(channel)), why="Redis evicts what expires")
    node.redis.config_set("maxmemory", 0)


def assert_past_is_unknown(node: Node, start: Cursor) -> None:
    """The node cannot know which channel has lost its pointer, and which one never had one."""
    now = node.publish("orders:other")
    assert not any(node.has_recovered(name, start) for name in (GONE, QUIET))
    assert node.has_recovered(QUIET, now)
    # From now on each channel has a pointer again: a node cannot prove more without them.
    assert node.redis.exists(KEYS.pointer(QUIET))
    node.subscribe("orders:later")
    node.publish("orders:later")
    wait_until(lambda: node.sink.ids("orders:later"))
    assert node.sink.losses == []


def test_evicted_pointers(node: Node, start: Cursor) -> None:
    evict_all(node)
    assert_past_is_unknown(node, start)


def test_evicted_pointers_that_resetstat_hides(node: Node, start: Cursor) -> None:
    """The counters are reset at once, before a node has read them."""
    evict_all(node)
    node.redis.config_resetstat()
    assert node.redis.info("stats")["evicted_keys"] == 0
    assert_past_is_unknown(node, start)


def test_evicted_pointers_that_resetstat_in_a_transaction_hides(node: Node, start: Cursor) -> None:
    evict_all(node)
    with node.redis.pipeline(transaction=True) as transaction:
        transaction.config_resetstat()
        transaction.execute_command("CONFIG", "RESETSTAT")
        transaction.execute()
    assert_past_is_unknown(node, start)


def test_second_resetstat_hides_no_more_than_the_first(node: Node, start: Cursor) -> None:
    """Nothing that was recorded after the first reset proves anything after the second."""
    node.redis.config_resetstat()
    assert not node.has_recovered(QUIET, start)
    now = node.publish("orders:other")
    node.publish(GONE)
    evict_all(node)
    node.redis.config_resetstat()
    node.redis.eval("for _ = 1, 20000 do redis.call('PING') end", 0)
    assert not any(node.has_recovered(name, now) for name in (GONE, "orders:quiet-2"))


def test_other_config_commands_hide_nothing(node: Node, start: Cursor) -> None:
    node.redis.config_get("maxmemory")
    node.redis.config_set("maxmemory", 0)
    with pytest.raises(ResponseError):
        node.redis.execute_command("CONFIG", "RESETSTAT", "now")
    assert node.has_recovered(QUIET, start)


def test_publication_after_an_eviction_shows_the_loss(node: Node, start: Cursor) -> None:
    del start
    node.subscribe("gone:new")
    # As if this publication was lost on the link: it is numbered, and not sent to the node.
    script = load_script("tidings.redis_client", "publish.lua", knows_horizon=True).text
    body = outgoing("gone:new").body
    names = [KEYS.meta, KEYS.rules, KEYS.stream("gone:new"), KEYS.pointer("gone:new"), KEYS.idempotency("a", "b")]
    node.redis.eval(script, len(names), *names, "e", 20_000, "PUBLISH", "gone", "elsewhere", body, 0)
    evict_all(node, "gone:new")
    node.redis.config_resetstat()
    node.publish("gone:new")
    wait_until(lambda: node.sink.ids("gone:new"))
    assert node.sink.lost_channels() == {"gone:new"}


class TestCost:
    """The statistics of all commands are read only if a reset is possible since they were read last."""

    BEGIN = b"for _ = 1, 300000 do redis.call('PING') end local time = redis.call('TIME') "
    NOW = b"string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[1]))"

    def reads(self, node: Node, age_ms: int) -> int:
        """How often one script calls INFO to find the horizon, if it looked at all commands `age_ms` ago."""
        asks = b"(tonumber(string.match(redis.call('INFO', 'commandstats'), 'cmdstat_info:calls=(%d+)') or '0')) "
        script = (
            *(load_script("tidings.redis_client", "horizon.lua").text, self.BEGIN),
            *(b"redis.call('HSET', KEYS[1], 'stats_ms', ", self.NOW, b") local before = ", asks),
            *(b"read_marks(KEYS[1], 'e') return ", asks, b"- before - 1"),
        )
        return int(node.redis.eval(b"".join(script), 1, KEYS.meta, -age_ms))

    def test_one_read_where_redis_cannot_have_executed_as_many_commands_since_a_reset(self, node: Node) -> None:
        assert self.reads(node, age_ms=0) == 1

    def test_two_reads_where_it_can(self, node: Node) -> None:
        assert self.reads(node, age_ms=600_000) == 2

    def test_two_reads_where_the_clock_went_back(self, node: Node) -> None:
        assert self.reads(node, age_ms=-5_000) == 2
