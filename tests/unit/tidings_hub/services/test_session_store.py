"""Storing and resuming sessions, on a memory broker that can fail."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from support.limits import broker_limits
from support.recording_hub import NAMESPACES, SECRET, RecordingConnection, fan_out, publish, recorder, run_in_thread
from support.waiting import wait_until
from tidings.errors import Unavailable
from tidings.publishers.memory.store import MemoryStore
from tidings.tokens import issue
from tidings_hub.brokers.memory import MemoryBroker
from tidings_hub.config.settings import Settings
from tidings_hub.core.resumable_session import JoinMode, ResumableSession, sid_of
from tidings_hub.core.session_records import ClaimedSession, RecordOperation, SessionRecord, WriteResult
from tidings_hub.core.sessions import Session
from tidings_hub.metrics import Metrics
from tidings_hub.services.client_connection import Connection
from tidings_hub.services.commands import Commands
from tidings_hub.services.connect import ConnectRequest, PendingSession, activate, identify, open_session
from tidings_hub.services.hub import Hub
from tidings_hub.services.hub_event import hub_event
from tidings_hub.services.subscribe import go_live, subscribe


class FlakyBroker(MemoryBroker):
    """A broker that rejects session records while `down`, and records the operations that succeeded.

    While `away` it rejects claims as well, and counts them.
    """

    def __init__(self) -> None:
        super().__init__(limits=broker_limits(), store=MemoryStore())
        self.down = False
        self.away = False
        self.claims = 0
        self.operations: list[RecordOperation] = []

    def write_sessions(self, records: Sequence[SessionRecord]) -> list[WriteResult]:
        if self.down or self.away:
            raise Unavailable("no")
        self.operations += [record.operation for record in records]
        return super().write_sessions(records)

    def claim_session(self, key: str, user: str) -> ClaimedSession | None:
        self.claims += 1
        if self.away:
            raise Unavailable("no")
        return super().claim_session(key, user)


Start = Callable[..., Hub]


@pytest.fixture
def start() -> Iterator[Start]:
    hubs: list[Hub] = []

    def start_hub(**more: Any) -> Hub:
        broker = FlakyBroker()
        settings = Settings.model_validate(
            {"secret": SECRET, "namespaces": NAMESPACES, "broker_timeout_s": 2.0, "recovery_window_s": 60.0} | more
        )
        hub = Hub(settings, broker, settings.access(), settings.key_set(), fan_out=fan_out, metrics=Metrics())
        hub.on_command = Commands(hub, run_in_thread).on_command
        broker.write_rules(settings.broker_rules())
        broker.start(hub)
        hub.session_store.start()
        hubs.append(hub)
        return hub

    yield start_hub
    for hub in hubs:
        hub.session_store.stop()
        hub.broker.stop()


def flaky(hub: Hub) -> FlakyBroker:
    assert isinstance(hub.broker, FlakyBroker)
    return hub.broker


def connect(
    hub: Hub, *channels: str, pid: object = "", offset: object = None
) -> tuple[Session[Connection], PendingSession]:
    """Connect as `socketio.events` does for a CONNECT packet."""
    request = ConnectRequest(issue("7", key=SECRET, channels=("*",)), channels, (), None, pid, offset)
    claims, resume = identify(hub, request, "here")
    session = hub.open(RecordingConnection(), claims)
    pending = open_session(hub, session, request, resume)
    cursor = str(pending.subscription.cursor)
    activate(hub, session, pending, hub_event("tidings:ready", pending.subscription.reply(), cursor=cursor))
    return session, pending


def offset(session: Session[Connection]) -> Any:
    """The offset that a stock client stores."""
    return next(event[-1] for event in reversed(recorder(session).events) if isinstance(event[-1], str))


def stored(hub: Hub, pending: PendingSession) -> dict[str, Any]:
    """The body of the stored record, once everything is written."""
    assert pending.resumable is not None
    wait_until(lambda: not hub.session_store.has_pending, why="all records are written")
    session = hub.broker.claim_session(pending.resumable.sid, "")
    assert session is not None
    hub.broker.write_sessions(
        [SessionRecord(RecordOperation.CREATE, pending.resumable.sid, session.owner, 60, session.user, session.body)]
    )
    body: dict[str, Any] = json.loads(session.body)
    return body


def joins(hub: Hub, pending: PendingSession) -> dict[str, str]:
    return {name: mode for mode, _, names in stored(hub, pending)["joins"] for name in names}


class TestResume:
    def test_a_session_is_resumed(self, start: Start) -> None:
        hub = start()
        session, first = connect(hub, "orders:1")
        publish(hub, "orders:1", 0)
        at = offset(session)
        publish(hub, "orders:1", 1)
        stored(hub, first)
        resumed, second = connect(hub, pid=first.pid, offset=at)
        publish(hub, "orders:1", 2)
        assert second.answer == first.answer
        assert resumed.id != session.id
        assert recorder(resumed).data() == [1, 2]
        assert recorder(session).code == "replaced"
        # A stock client that receives DISCONNECT never reconnects.
        assert "DISCONNECT" not in recorder(session).names()
        assert hub.metrics.sessions_recovered == 1

    def test_requested_channels_are_added_to_a_resumed_session(self, start: Start) -> None:
        hub = start()
        session, first = connect(hub, "orders:1")
        stored(hub, first)
        publish(hub, "orders:2", "not its own")
        resumed, second = connect(hub, "orders:2", "unknown:1", pid=first.pid, offset=offset(session))
        assert second.answer == first.answer
        ready = recorder(resumed).events[0][1]["channels"]
        assert ready["orders:1"] == {"recovered": True}
        assert ready["orders:2"] == {"recovered": False}
        assert ready["unknown:1"]["error"]["code"] == "unknown_namespace"
        assert joins(hub, second)["orders:2"] == JoinMode.FROM_POSITION
        assert recorder(resumed).data() == []

    def test_one_incomplete_channel_makes_a_new_session(self, start: Start) -> None:
        hub = start()
        session, first = connect(hub, "orders:1", "ticks:1")
        at = offset(session)
        publish(hub, "orders:1", 1)
        publish(hub, "ticks:1", 1)
        stored(hub, first)
        resumed, second = connect(hub, "orders:1", pid=first.pid, offset=at)
        assert second.answer != first.answer
        assert recorder(resumed).events[0][1]["channels"]["orders:1"] == {"recovered": False}
        assert recorder(resumed).data() == []
        assert hub.metrics.returns_refused == {"channels": 1}
        assert list(resumed.channels) == ["user:7", "orders:1"]

    def test_a_loss_during_the_resume_makes_a_new_session(self, start: Start) -> None:
        hub = start()
        session, first = connect(hub, "orders:1")
        stored(hub, first)
        read_since = hub.broker.read_since

        def read_since_with_loss(*arguments: Any, **more: Any) -> Any:
            snapshot = read_since(*arguments, **more)
            hub.on_loss(["orders:1"], snapshot.position)
            return snapshot

        hub.broker.read_since = read_since_with_loss  # type: ignore[method-assign]
        _, second = connect(hub, pid=first.pid, offset=offset(session))
        assert second.answer != first.answer

    def test_a_claimed_session_is_released_if_the_connect_fails(self, start: Start) -> None:
        hub = start()
        session, first = connect(hub, "orders:1")
        stored(hub, first)
        subscribe, hub.broker.subscribe = hub.broker.subscribe, refuse  # type: ignore[method-assign]
        with pytest.raises(Unavailable):
            connect(hub, pid=first.pid, offset=offset(session))
        hub.broker.subscribe = subscribe  # type: ignore[method-assign]
        wait_until(lambda: not hub.session_store.has_pending, why="the session is released")
        assert connect(hub, pid=first.pid, offset=offset(session))[1].answer == first.answer

    def test_a_failing_broker_does_not_prevent_a_resume(self, start: Start) -> None:
        hub = start()
        flaky(hub).down = True
        session, first = connect(hub, "orders:1")
        wait_until(lambda: hub.metrics.recovery_errors, why="a write failed")
        assert connect(hub, pid=first.pid, offset=offset(session))[1].answer != first.answer
        assert hub.metrics.returns_refused == {"unknown": 1}


def refuse(channels: Sequence[str]) -> None:
    raise Unavailable(str(channels))


class TestChannels:
    def subscribe(self, hub: Hub, session: Session[Connection], channel: str, since: Any = None) -> None:
        pending = subscribe(hub, session, [channel], since)
        go_live(hub, session, pending)

    def test_a_channel_is_stored_before_the_client_is_notified(self, start: Start) -> None:
        hub = start()
        session, first = connect(hub)
        stored(hub, first)
        stored_joins = []
        subscribe = hub.broker.subscribe

        def subscribe_and_record(channels: Sequence[str]) -> None:
            stored_joins.append(
                json.loads(flaky(hub)._session_records._records[first.answer["sid"]][1].body)["joins"][-1]
            )  # type: ignore[index]
            subscribe(channels)

        hub.broker.subscribe = subscribe_and_record  # type: ignore[method-assign]
        self.subscribe(hub, session, "orders:1")
        self.subscribe(hub, session, "orders:2", hub.broker.position)
        assert [(mode, names[-1]) for mode, _, names in stored_joins] == [("fresh", "orders:1"), ("open", "orders:2")]
        assert joins(hub, first) == {"user:7": "fresh", "orders:1": "fresh", "orders:2": "behind"}

    def test_a_channel_that_cannot_be_stored_is_refused(self, start: Start) -> None:
        hub = start()
        session, first = connect(hub, "orders:1")
        stored(hub, first)
        flaky(hub).down = True
        with pytest.raises(Unavailable):
            self.subscribe(hub, session, "orders:2")
        flaky(hub).down = False
        assert "orders:2" not in session.channels
        assert joins(hub, first).keys() == {"user:7", "orders:1"}

    def test_an_unsubscribed_channel_is_not_stored(self, start: Start) -> None:
        hub = start()
        session, first = connect(hub, "orders:1", "orders:2")
        hub.unsubscribe(session, ["orders:1"])
        assert joins(hub, first).keys() == {"user:7", "orders:2"}

    def test_a_refreshed_token_replaces_the_stored_one(self, start: Start) -> None:
        hub = start()
        session, first = connect(hub, "orders:1")
        hub.refresh(session, issue("7", key=SECRET, channels=("user:*",), jti="next"))
        assert stored(hub, first)["jti"] == "next"
        assert joins(hub, first).keys() == {"user:7"}

    def test_a_session_that_is_too_large_is_not_stored(self, start: Start) -> None:
        hub = start(recovery_session_max_bytes=256)
        session, first = connect(hub, "orders:1")
        stored(hub, first)
        self.subscribe(hub, session, "orders:" + "x" * 130)
        self.subscribe(hub, session, "orders:" + "y" * 130)
        wait_until(lambda: not hub.session_store.has_pending, why="all records are written")
        assert first.resumable is not None
        assert hub.broker.claim_session(first.resumable.sid, "") is None
        assert (hub.metrics.recovery_sessions_too_large, session.resumable) == (1, None)


class TestEnds:
    @pytest.mark.parametrize(("reason", "stays"), [("transport close", True), ("draining", True), ("revoked", False)])
    def test_close_reason_decides_whether_a_session_can_be_resumed(
        self, start: Start, reason: str, stays: bool
    ) -> None:
        hub = start()
        session, first = connect(hub, "orders:1")
        at = offset(session)
        stored(hub, first)
        hub.close(session, reason)
        wait_until(lambda: not hub.session_store.has_pending, why="all records are written")
        assert (connect(hub, pid=first.pid, offset=at)[1].answer == first.answer) is stays

    def test_a_session_that_ends_immediately_is_stored(self, start: Start) -> None:
        hub = start()
        session, first = connect(hub, "orders:1")
        hub.close(session, "transport close")
        stored(hub, first)
        assert hub.metrics.recovery_sessions == 0
        assert connect(hub, pid=first.pid, offset=offset(session))[1].answer == first.answer

    def test_pending_records_are_written_at_the_stop_of_a_node(self, start: Start) -> None:
        hub = start()
        session, first = connect(hub, "orders:1")
        hub.close(session, "draining")
        hub.session_store.stop()
        assert first.resumable is not None
        assert hub.broker.claim_session(first.resumable.sid, "7") is not None

    def test_a_missing_record_is_not_created_again(self, start: Start) -> None:
        hub = start()
        session, first = connect(hub, "orders:1")
        stored(hub, first)
        assert first.resumable is not None
        hub.broker.claim_session(first.resumable.sid, "")
        hub.unsubscribe(session, ["orders:1"])
        wait_until(lambda: session.resumable is None, why="the session is not stored any more")
        hub.unsubscribe(session, ["user:7"])
        wait_until(lambda: not hub.session_store.has_pending, why="all records are written")
        assert hub.broker.claim_session(first.resumable.sid, "") is None
        assert recorder(session).code is None

    def test_a_record_of_another_owner_ends_the_session(self, start: Start) -> None:
        hub = start()
        session, first = connect(hub, "orders:1")
        stored(hub, first)
        assert first.resumable is not None
        hub.broker.claim_session(first.resumable.sid, "")
        hub.broker.write_sessions(
            [SessionRecord(RecordOperation.CREATE, first.resumable.sid, "elsewhere", 60, "7", b"{}")]
        )
        hub.unsubscribe(session, ["orders:1"])
        wait_until(lambda: recorder(session).code == "replaced", why="the session is closed")
        assert hub.broker.claim_session(first.resumable.sid, "") == ClaimedSession("elsewhere", "7", b"{}")

    def test_replace_command_of_another_node_closes_the_session(self, start: Start) -> None:
        hub = start()
        session, _ = connect(hub)
        hub.broker.send_control({"do": "replace", "connections": ["never", session.id]})
        wait_until(lambda: recorder(session).code == "replaced", why="the session is closed")


class TestAway:
    def test_one_client_at_a_time_waits_for_a_store_that_is_away(self, start: Start) -> None:
        hub = start()
        flaky(hub).away = True
        for _ in range(20):
            with pytest.raises(Unavailable):
                connect(hub, pid="x" * 24, offset="e.1")
        assert flaky(hub).claims < 20
        assert hub.metrics.broker_calls_refused["sessions"] == 20 - flaky(hub).claims
        assert hub.metrics.returns_refused == {}
        # A client without a pid does not need the store to connect.
        assert connect(hub, "orders:1")[1].answer is not None

    def test_client_gets_a_new_session_without_a_pid_after_recovery_away_s(self, start: Start) -> None:
        hub = start(recovery_away_s=0.2)
        session, first = connect(hub, "orders:1")
        at = offset(session)
        stored(hub, first)
        flaky(hub).away = True

        def is_new() -> bool:
            try:
                return connect(hub, "orders:1", pid=first.pid, offset=at)[1].answer is None
            except Unavailable:
                return False

        wait_until(is_new, why="a new session without a pid")
        assert hub.metrics.returns_refused["away"] >= 1
        assert hub.metrics.sessions_recovered == 0

    def test_channel_is_refused_at_once_while_the_store_is_away(self, start: Start) -> None:
        hub = start(broker_timeout_s=30.0)
        session, first = connect(hub, "orders:1")
        stored(hub, first)
        flaky(hub).away = True
        with pytest.raises(Unavailable):
            connect(hub, pid="x" * 24, offset="e.1")
        with pytest.raises(Unavailable, match="sessions"):
            subscribe(hub, session, ["orders:2"], None)
        assert "orders:2" not in session.channels
        flaky(hub).away = False

        def is_subscribed() -> bool:
            try:
                go_live(hub, session, subscribe(hub, session, ["orders:2"], None))
            except Unavailable:
                return False
            return "orders:2" in session.channels

        wait_until(is_subscribed, why="the store is asked again")
        assert joins(hub, first).keys() == {"user:7", "orders:1", "orders:2"}

    def test_sessions_are_resumed_once_the_store_is_back(self, start: Start) -> None:
        hub = start(recovery_away_s=0.0)
        flaky(hub).away = True
        assert connect(hub, pid="x" * 24, offset="e.1")[1].answer is None
        flaky(hub).away = False
        # No client has a pid, so saving a session is the probe.
        wait_until(lambda: connect(hub)[1].answer is not None, why="a session with a pid")
        wait_until(lambda: not hub.session_store.has_pending, why="it is saved")
        session, first = connect(hub, "orders:1")
        stored(hub, first)
        assert connect(hub, pid=first.pid, offset=offset(session))[1].answer == first.answer


class TestBounds:
    def test_closed_sessions_count_towards_the_maximum(self, start: Start) -> None:
        hub = start(recovery_sessions_max=2, recovery_window_s=0.5)
        (session, _), _ = connect(hub), connect(hub)
        assert connect(hub)[1].answer is None
        hub.close(session, "transport close")
        assert connect(hub)[1].answer is None
        assert hub.metrics.recovery_sessions_refused == 2
        wait_until(lambda: hub.session_store.new_pid() is not None, why="the closed session has expired")

    def test_no_session_is_stored_without_a_recovery_window(self, start: Start) -> None:
        hub = start(recovery_window_s=0)
        _, first = connect(hub, pid="x" * 24, offset="e.1")
        assert (first.answer, flaky(hub).operations) == (None, [])

    def test_a_client_without_pid_is_not_stored(self, start: Start) -> None:
        hub = start()
        assert connect(hub, pid=None)[1].answer is None
        assert hub.metrics.recovery_sessions == 0

    def test_a_live_session_is_touched(self, start: Start) -> None:
        hub = start(recovery_window_s=0.5)
        _, first = connect(hub, "orders:1")
        wait_until(lambda: flaky(hub).operations.count(RecordOperation.TOUCH) >= 3, why="the record is touched")
        assert flaky(hub).operations.count(RecordOperation.CREATE) == 1
        assert stored(hub, first)["joins"]


def test_the_session_of_another_user_is_not_claimed(start: Start) -> None:
    hub = start()
    pid = "known-to-the-client-only"
    other = ResumableSession(sid_of(pid), "c9", "8", jti=None)
    hub.broker.write_sessions(
        [
            SessionRecord(
                RecordOperation.CREATE,
                other.sid,
                other.owner,
                60,
                other.user,
                other.encode(),
            )
        ]
    )
    connect(hub, pid=pid, offset="e.1")
    assert hub.metrics.returns_refused == {"user": 1}
    assert hub.broker.claim_session(other.sid, "8") is not None
