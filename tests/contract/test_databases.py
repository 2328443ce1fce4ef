"""Two hubs with the same prefix in two databases of one Redis. Redis' pub/sub ignores the number of the database."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from contract.broker_contract import LIMITS, RULES, outgoing
from support.history import Listener, Recorder
from support.processes.redis import RedisProcess
from support.waiting import wait_until
from tidings.publishers.redis.publisher import RedisPublisher
from tidings.receipts import Receipt
from tidings.redis_client.keys import RedisKeys
from tidings.wire.control import CommandResult, command_result, disconnect, revoke
from tidings_hub.brokers import known_epochs
from tidings_hub.brokers.base import BrokerLimits
from tidings_hub.brokers.redis import RedisBroker
from tidings_hub.metrics import Metrics

KEYS = RedisKeys()


@dataclass
class DatabaseNode:
    """One node on one database, which replies to every command with one connection."""

    url: str
    recorder: Recorder
    limits: BrokerLimits
    metrics: Metrics = field(default_factory=Metrics)

    def __post_init__(self) -> None:
        self.name = f"n{self.url[-1]}"
        self.sink = Listener(self.recorder, self.name)
        self.broker = RedisBroker(self.url, node_id="same", limits=self.limits, metrics=self.metrics)
        self.sink.reply_to_control = self._reply

    def _reply(self, message: dict[str, object]) -> None:
        if "reply" in message:
            reply = {"node": self.name, "connections": 1}
            threading.Thread(target=self.broker.reply, args=(str(message["reply"]), reply)).start()

    def start(self) -> DatabaseNode:
        self.broker.write_rules(RULES)
        self.broker.start(self.sink)
        wait_until(lambda: self.broker.state().connected, why="the node is connected")
        self.broker.write_node(self.name, {"node": self.name}, lease_s=600)
        return self

    @property
    def commands(self) -> list[object]:
        return [message["do"] for message in self.sink.controls]


Start = Callable[..., DatabaseNode]


@pytest.fixture
def start(redis: RedisProcess, tmp_path: Path) -> Iterator[Start]:
    nodes: list[DatabaseNode] = []
    recorder = Recorder(tmp_path / "history.jsonl")

    def start_in(database: int, **changes: object) -> DatabaseNode:
        limits = replace(LIMITS, **changes)  # type: ignore[arg-type]
        nodes.append(DatabaseNode(f"redis://127.0.0.1:{redis.port}/{database}", recorder, limits))
        return nodes[-1].start()

    yield start_in
    for node in nodes:
        node.broker.stop()
    recorder.close()


def script_calls(redis: RedisProcess) -> int:
    with redis.client() as client:
        return int(client.info("commandstats")["cmdstat_evalsha"]["calls"])


def test_commands_of_another_database_are_ignored_and_counted(start: Start) -> None:
    production, staging = start(0), start(1)
    order = revoke(user="7", jti=None, for_s=60, until_s=None, now_s=time.time())
    assert command_result(staging.broker.run_command(order, timeout_s=20)) == CommandResult(1, 1)
    staging.broker.send_control({"do": "replace", "connections": ["a"]})
    wait_until(lambda: production.metrics.control_foreign == 2, why="production received both commands")
    wait_until(lambda: staging.commands == ["revoke", "replace"], why="staging executes both")
    assert production.commands == []
    assert production.broker.revocations() == {}
    assert list(staging.broker.revocations()) == ["user:7"]
    own = command_result(production.broker.run_command(disconnect(user="7", connection=None), timeout_s=20))
    assert own == CommandResult(1, 1)
    assert production.commands == ["disconnect"]


@pytest.mark.parametrize("clock_s", [-7_200.0, 7_200.0])
def test_duration_of_a_revocation_counts_also_by_the_clock_of_redis(
    redis: RedisProcess, start: Start, clock_s: float
) -> None:
    """A backend whose clock is two hours behind named an end in the past, and nothing was revoked."""
    node, now_s = start(0), time.time()
    emitter = RedisPublisher(f"redis://127.0.0.1:{redis.port}/0")
    order = revoke(user="7", jti=None, for_s=600, until_s=None, now_s=now_s + clock_s)
    assert emitter.send_command(order, timeout_s=20) == CommandResult(1, 1)
    emitter.close()
    expected = pytest.approx(now_s + max(clock_s, 0.0) + 600, abs=60)
    assert node.broker.revocations() == {"user:7": expected}
    assert [(message["user"], message["until_s"]) for message in node.sink.controls] == [("7", expected)]


def test_end_of_a_revocation_that_was_given_is_not_changed(redis: RedisProcess, start: Start) -> None:
    node, end_s = start(0), time.time() - 7_200
    emitter = RedisPublisher(f"redis://127.0.0.1:{redis.port}/0")
    emitter.send_command(revoke(user="7", jti=None, for_s=None, until_s=end_s, now_s=0.0), timeout_s=20)
    emitter.close()
    assert [message["until_s"] for message in node.sink.controls] == [end_s]
    assert node.broker.revocations() == {}


def test_commands_of_an_emitter_reach_its_database_alone_and_do_not_wait_for_others(
    redis: RedisProcess, start: Start
) -> None:
    production, staging = start(0), start(1)
    emitter = RedisPublisher(f"redis://127.0.0.1:{redis.port}/1")
    start_s = time.monotonic()
    result = emitter.send_command(disconnect(user="7", connection=None), timeout_s=60)
    emitter.close()
    assert result == CommandResult(1, 1)
    assert time.monotonic() - start_s < 30, "a node of another database never replies"
    assert (production.commands, staging.commands) == ([], ["disconnect"])


def test_first_command_after_the_database_was_emptied_is_executed(redis: RedisProcess, start: Start) -> None:
    node = start(0, position_check_s=3600.0)
    node.broker.subscribe(["orders:1"])
    with redis.client() as client:
        client.flushdb()
    node.broker.send_control({"do": "replace", "connections": ["a"]})
    wait_until(lambda: node.commands == ["replace"], why="the command of the new epoch is executed")
    assert (node.metrics.epochs, node.metrics.control_foreign) == (1, 0)
    assert node.sink.losses != [], "the new epoch is reported to clients first"


def test_command_of_the_epoch_before_is_executed(redis: RedisProcess, start: Start) -> None:
    node = start(0)
    assert node.broker.position is not None
    before = node.broker.position.epoch
    with redis.client() as client:
        client.flushdb()
        wait_until(lambda: node.metrics.epochs == 1, why="the node is in the new epoch")
        client.publish(KEYS.control, json.dumps({"epoch": before, "do": "replace", "connections": []}))
    wait_until(lambda: node.commands == ["replace"], why="the late command is executed")


def test_commands_do_not_cross_after_the_databases_were_swapped(
    redis: RedisProcess, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_epochs, "_PAST_S", 0.0)
    first, second = start(0), start(1)
    for swap in (1, 2):
        with redis.client() as client:
            client.swapdb(0, 1)
        wait_until(lambda n=swap: first.metrics.epochs == second.metrics.epochs == n, why="both have the other's epoch")
        second.broker.send_control({"do": "replace", "connections": ["a"]})
        wait_until(lambda n=swap: first.metrics.control_foreign == n, why="the first one received it")
        wait_until(lambda n=swap: second.commands == ["replace"] * n, why="the second one executes it")
    assert first.commands == []


def test_publications_of_another_database_are_ignored_without_a_lookup_each(redis: RedisProcess, start: Start) -> None:
    production, staging = start(0, position_check_s=3600.0), start(1, position_check_s=3600.0)
    for node in (production, staging):
        node.broker.subscribe(["orders:1"])
    before = script_calls(redis)
    receipts = staging.broker.publish_many([outgoing("orders:1") for _ in range(200)])
    assert all(isinstance(receipt, Receipt) for receipt in receipts)
    wait_until(lambda: production.metrics.broker_poisoned == 200, why="production received them")
    assert script_calls(redis) - before < 20
    own = production.broker.publish("orders:1", outgoing("orders:1").body, id="own", idempotency_s=0)
    wait_until(lambda: production.sink.ids("orders:1") != [], why="production delivers its own")
    assert [item.cursor for item in production.sink.publications] == [own.cursor]
    assert (production.sink.losses, production.metrics.epochs) == ([], 0)


@pytest.mark.parametrize("accepted", [True, False])
def test_command_without_an_epoch_follows_the_setting(redis: RedisProcess, start: Start, *, accepted: bool) -> None:
    node = start(0, commands_without_epoch=accepted)
    with redis.client() as client:
        client.publish(KEYS.control, b'{"do":"disconnect","user":"7"}')
        wait_until(lambda: node.metrics.control_without_epoch == 1, why="the command arrived")
    node.broker.send_control({"do": "replace", "connections": []})
    expected = ["disconnect", "replace"] if accepted else ["replace"]
    wait_until(lambda: node.commands == expected, why=f"the node executes {expected}")
    assert node.metrics.control_foreign == (not accepted)


def test_revocation_without_an_epoch_counts_only_if_it_is_stored_here(redis: RedisProcess, start: Start) -> None:
    node = start(0)
    with redis.client() as client:
        client.publish(KEYS.control, b'{"do":"revoke","user":"7","until_s":9999999999}')
    wait_until(lambda: node.commands == ["read_revocations"], why="the node reads what is stored")


@pytest.mark.parametrize("epoch", ["1", "[]", '""', '"never"', "1e999", "{}"])
def test_command_with_an_unknown_epoch_is_ignored(redis: RedisProcess, start: Start, epoch: str) -> None:
    node = start(0)
    with redis.client() as client:
        client.publish(KEYS.control, f'{{"do":"disconnect","user":"7","epoch":{epoch}}}')
    wait_until(lambda: node.metrics.control_foreign == 1, why="the command is ignored")
    assert node.commands == []


@pytest.mark.parametrize("other", ["tidings:x:", "tidings:x", "tidings", "tidings::"])
def test_prefix_that_begins_with_another_one_shares_nothing_with_it(
    redis: RedisProcess, start: Start, other: str
) -> None:
    node = start(0)
    node.broker.subscribe(["orders:1"])
    neighbour = RedisBroker(redis.url, prefix=other, node_id="same", limits=LIMITS)
    neighbour.write_rules(RULES)
    sink = Listener(node.recorder, "neighbour")
    neighbour.start(sink)
    wait_until(lambda: neighbour.state().connected, why="the neighbour is connected")
    neighbour.send_control({"do": "replace", "connections": []})
    neighbour.publish("orders:1", outgoing("orders:1").body, id="x", idempotency_s=0)
    wait_until(lambda: len(sink.controls) == 1, why="the neighbour has its own command")
    own = node.broker.publish("orders:1", outgoing("orders:1").body, id="own", idempotency_s=0)
    wait_until(lambda: [item.cursor for item in node.sink.publications] == [own.cursor], why="its own arrives")
    neighbour.stop()
    assert (node.commands, node.metrics.control_messages, node.metrics.broker_poisoned) == ([], 0, 0)
