from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.limits import broker_limits
from support.recording_hub import NAMESPACES, SECRET, Clock, fan_out, open_session, recorder, run_in_thread
from support.waiting import wait_until
from tidings.errors import BadConfig, Revoked, Unavailable
from tidings.publishers.memory.store import open_store
from tidings.tokens import issue
from tidings.wire.control import revoke
from tidings_hub.brokers.memory import MemoryBroker
from tidings_hub.config.settings import Settings
from tidings_hub.metrics import Metrics
from tidings_hub.services.commands import Commands
from tidings_hub.services.hub import Hub


class ForgetfulBroker(MemoryBroker):
    """A broker that can be emptied, and whose revocations cannot be read while `is_away`."""

    is_away = False

    def empty(self) -> None:
        self._store.commands._revoked.clear()

    def revocations(self) -> dict[str, float]:
        if self.is_away:
            raise Unavailable("away")
        return super().revocations()


Start = Callable[..., Hub]


@pytest.fixture
def start() -> Iterator[Start]:
    hubs: list[Hub] = []
    url = f"memory://{secrets.token_hex(4)}"

    def start_hub(*, own_broker: bool = False, is_away: bool = False, **changes: object) -> Hub:
        broker_url = f"memory://{secrets.token_hex(4)}" if own_broker else url
        values = {"secret": SECRET, "namespaces": NAMESPACES, "broker": broker_url, "canary_interval_s": 0.1}
        settings = Settings.model_validate(values | changes)
        broker = ForgetfulBroker(settings.broker, limits=broker_limits())
        broker.is_away = is_away
        hub = Hub(settings, broker, settings.access(), settings.key_set(), fan_out=fan_out, metrics=Metrics())
        hub.on_command = Commands(hub, run_in_thread).on_command
        hub.revocations.start()
        broker.write_rules(settings.broker_rules())
        broker.start(hub)
        hubs.append(hub)
        return hub

    yield start_hub
    for hub in hubs:
        hub.revocations.stop()
        hub.broker.stop()


def until_s(hub: Hub, after_s: float = 3600.0) -> float:
    return hub.wall_s() + after_s


def broker_of(hub: Hub) -> ForgetfulBroker:
    assert isinstance(hub.broker, ForgetfulBroker)
    return hub.broker


def test_node_writes_back_what_the_broker_has_forgotten(start: Start) -> None:
    hub = start()
    end_s = until_s(hub)
    hub.broker.write_revocations({"user:7": end_s})
    wait_until(lambda: hub.metrics.revocations == 1, why="the node has read it")
    broker_of(hub).empty()
    wait_until(lambda: hub.broker.revocations() == {"user:7": end_s}, why="the node writes it back")
    assert hub.metrics.revocations_restored == 1


def test_node_writes_back_the_later_end(start: Start) -> None:
    hub = start()
    end_s = until_s(hub)
    hub.revocations.add("user:7", end_s)
    broker_of(hub).empty()
    hub.broker.write_revocations({"user:7": end_s - 600})
    wait_until(lambda: hub.broker.revocations() == {"user:7": end_s}, why="the node writes its end back")


def test_many_revocations_are_written_back_by_several_nodes_at_once(start: Start) -> None:
    hubs = [start() for _ in range(3)]
    expected = {f"jti:{number}": until_s(hubs[0]) for number in range(1_700)}
    for hub in hubs:
        for key, end_s in expected.items():
            hub.revocations.add(key, end_s)
    wait_until(lambda: hubs[0].broker.revocations() == expected, why="all are written back")
    wait_until(lambda: all(hub.metrics.revocations == 1_700 for hub in hubs), why="every node has all")


def test_ended_revocation_is_not_written_back(start: Start) -> None:
    hub = start()
    hub.revocations.add("user:7", hub.wall_s() - 1)
    hub.revocations.sync()
    assert (hub.broker.revocations(), hub.metrics.revocations_restored) == ({}, 0)


def test_other_nodes_read_at_once_what_a_node_has_written_back(start: Start) -> None:
    slow, other = start(canary_interval_s=300.0), start(canary_interval_s=300.0)
    wait_until(lambda: slow.revocations.are_read and other.revocations.are_read, why="both have read once")
    clock = Clock()
    clock.now_s = other.wall_s()
    session = open_session(other, clock, "7")
    slow.revocations.add("user:7", until_s(slow))
    slow.revocations.sync()
    wait_until(lambda: recorder(session).code == "revoked", why="the other node ends the session")


def test_no_token_is_accepted_before_the_revocations_were_read(start: Start) -> None:
    hub = start(is_away=True)
    token = issue("7", key=SECRET)
    with pytest.raises(Unavailable):
        hub.authenticator.authenticate(token, "here")
    assert hub.metrics.auth_failures == {}
    assert not hub.revocations.wait_until_read(0.1)
    wait_until(lambda: hub.metrics.revocation_errors > 0, why="the attempt is counted")
    broker_of(hub).is_away = False
    assert hub.revocations.wait_until_read(20)
    assert hub.revocations.are_read
    assert hub.authenticator.authenticate(token, "here").sub == "7"
    broker_of(hub).is_away = True
    assert hub.authenticator.authenticate(token, "here").sub == "7", "what was read once stays known"


def test_sessions_are_ended_in_steps_between_which_others_run(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = start(canary_interval_s=300.0)
    wait_until(lambda: hub.revocations.are_read, why="the node has read once")
    clock = Clock()
    clock.now_s = hub.wall_s()
    sessions = [open_session(hub, clock, f"user{number % 3}") for number in range(350)]
    hub.revocations.add("user:user0", until_s(hub))
    hub.revocations.add("user:user1", until_s(hub))
    turns: list[int] = []

    def end_turn(_: float) -> None:
        turns.append(sum(recorder(session).code == "revoked" for session in sessions))
        # A session that closes meanwhile is not ended a second time.
        hub.close(sessions[-2])

    monkeypatch.setattr("tidings_hub.services.revocations.time.sleep", end_turn)
    assert hub.revocations.sync() == 233
    assert turns == [67, 134, 200, 233]
    assert hub.metrics.revoked == 233


def test_many_revocations_are_compared_in_steps_between_which_others_run(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = start(canary_interval_s=300.0)
    wait_until(lambda: hub.revocations.are_read, why="the node has read once")
    hub.broker.write_revocations({f"jti:{number}": until_s(hub) for number in range(10_000)})
    monkeypatch.setattr("tidings_hub.services.revocations._ENTRIES_PER_TURN", 1_000)
    turns: list[float] = []

    def end_turn(pause_s: float) -> None:
        turns.append(pause_s)
        # It arrives during the comparison, so it is not in what was read.
        hub.revocations.add(f"jti:new{len(turns)}", until_s(hub))

    monkeypatch.setattr("tidings_hub.services.revocations.time.sleep", end_turn)
    hub.revocations.sync()
    assert len(turns) == 10, "what was read is added in steps"
    hub.broker.write_revocations({f"jti:new{number}": until_s(hub) for number in range(1, 11)})
    hub.revocations.sync()
    assert len(turns) == 30, "and what is known is compared in steps"
    assert hub.metrics.revocations_restored == 0, "what arrives meanwhile is not taken for lost"


def test_new_connection_to_the_broker_is_compared_at_once(start: Start) -> None:
    hub = start(canary_interval_s=300.0)
    wait_until(lambda: hub.revocations.are_read, why="the node has read once")
    hub.broker.write_revocations({"user:7": until_s(hub)})
    broker_of(hub)._since_s += 1
    wait_until(lambda: hub.metrics.revocations == 1, why="the node reads again")


class TestFile:
    def test_node_on_the_memory_broker_remembers_after_a_restart(self, start: Start, tmp_path: Path) -> None:
        changes = {"revocations_file": str(tmp_path / "revocations"), "own_broker": True}
        first = start(**changes)
        first.revocations.add("user:7", until_s(first))
        first.revocations.flush(timeout_s=20)
        restarted = start(**changes)
        wait_until(lambda: restarted.revocations.are_read, why="the node has read the broker")
        with pytest.raises(Revoked):
            restarted.authenticator.authenticate(issue("7", key=SECRET), "here")
        wait_until(lambda: list(restarted.broker.revocations()) == ["user:7"], why="it is written back")

    def test_what_the_broker_stores_is_saved_too(self, start: Start, tmp_path: Path) -> None:
        path = tmp_path / "revocations"
        hub = start(revocations_file=str(path))
        hub.broker.write_revocations({"jti:x": until_s(hub)})
        wait_until(lambda: "jti:x" in path.read_text(), why="it is in the file")

    def test_reply_to_a_revocation_follows_its_line_in_the_file(self, start: Start, tmp_path: Path) -> None:
        path = tmp_path / "revocations"
        hub = start(revocations_file=str(path))
        commands = open_store(hub.settings.broker).commands
        order = revoke(user="7", jti=None, for_s=60, until_s=None, now_s=hub.wall_s())
        assert len(commands.request(order, timeout_s=20).replies) == 1
        assert "user:7" in path.read_text()

    def test_broken_file_is_an_error_at_start(self, start: Start, tmp_path: Path) -> None:
        path = tmp_path / "revocations"
        path.write_text("something else\n")
        with pytest.raises(BadConfig, match="not a file of revocations"):
            start(revocations_file=str(path))

    def test_file_that_breaks_later_is_counted_and_the_revocation_holds(self, start: Start, tmp_path: Path) -> None:
        path = tmp_path / "revocations"
        hub = start(revocations_file=str(path))
        path.write_text("something else\n")
        hub.revocations.add("user:7", until_s(hub))
        wait_until(lambda: hub.metrics.revocations_file_errors > 0, why="the failure is counted")
        wait_until(lambda: hub.metrics.revocations_unsaved == 1, why="the revocation counts as unsaved")
        with pytest.raises(Revoked):
            hub.authenticator.authenticate(issue("7", key=SECRET), "here")
        path.unlink()
        wait_until(lambda: path.exists() and "user:7" in path.read_text(), why="the write is repeated")
        wait_until(lambda: hub.metrics.revocations_unsaved == 0, why="nothing is unsaved")
