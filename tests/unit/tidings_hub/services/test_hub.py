"""The hub on the memory broker, with connections that write down what they get."""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pytest

from support.limits import broker_limits
from support.waiting import wait_until
from tidings import AsyncEmitter, Emitter
from tidings.errors import CallerError, Expired, Forbidden, Revoked, TidingsError, TooFast, Unauthorized
from tidings.publishers.base import OutgoingPublication
from tidings.receipts import Receipt
from tidings.tokens import issue
from tidings.wire import control
from tidings.wire.control import CommandResult
from tidings.wire.cursor import Cursor
from tidings.wire.payload import encode_data
from tidings.wire.publication import encode_body
from tidings_hub.brokers.memory import MemoryBroker
from tidings_hub.config.settings import Settings
from tidings_hub.core.frame import OutgoingFrame
from tidings_hub.core.sessions import Session
from tidings_hub.metrics import Metrics
from tidings_hub.node.api import LocalNodeApi
from tidings_hub.node.readiness import Readiness
from tidings_hub.services.client_connection import Connection
from tidings_hub.services.commands import Commands
from tidings_hub.services.hub import Hub
from tidings_hub.services.hub_event import hub_event
from tidings_hub.services.subscribe import PendingSubscription, go_live, subscribe

SECRET = "kT3xw9LpQ2vB7mZr5cYh8nDs4fGj6aUe"
NAMESPACES = {"orders": {"history": 50}, "big": {"history": 50}, "ticks": {"subscribe": "public", "history": 0}}


class Recorder:
    """A connection that keeps what is written to it."""

    def __init__(self) -> None:
        self.remote = "here"
        self.transport = "websocket"
        self.said: list[Any] = []
        self.code: str | None = None

    @property
    def closed(self) -> bool:
        return self.code is not None

    def close(self, code: str) -> None:
        self.code = self.code or code

    def names(self) -> list[Any]:
        return [said[0] for said in self.said]

    def data(self) -> list[Any]:
        return [said[1] for said in self.said if not str(said[0]).startswith("tidings:")]


def fan_out(connections: Iterable[Connection], said: Sequence[OutgoingFrame]) -> None:
    for connection in connections:
        assert isinstance(connection, Recorder)
        for each in said:
            text = each.packet.decode()
            connection.said.append(json.loads(text[2:]) if text != "41" else ["DISCONNECT"])


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def hub(clock: Clock) -> Iterator[Hub]:
    settings = Settings.model_validate(
        {"secret": SECRET, "namespaces": NAMESPACES, "out_buffer_bytes": 65_536, "hold_max": 5, "expiry_warning_s": 30}
        # Of its own, and to be reached by emitters of the same process.
        | {"broker": f"memory://{secrets.token_hex(4)}"}
    )
    broker = MemoryBroker(settings.broker, limits=broker_limits())
    made = Hub(
        settings, broker, settings.access(), settings.key_set(), fan_out=fan_out, metrics=Metrics(), wall_s=clock
    )
    made.on_command = Commands(made, in_thread).on_command
    broker.write_rules(settings.broker_rules())
    broker.start(made)
    yield made
    broker.stop()


def publish(hub: Hub, channel: str, data: object, *, event: str = "ev", id: str | None = None) -> Receipt:
    publish.number += 1  # type: ignore[attr-defined]
    id_ = id or f"id{publish.number}"  # type: ignore[attr-defined]
    body = encode_body(event, encode_data(data), id=id_, at_ms=1)
    (result,) = hub.publish([OutgoingPublication(channel, body, id_, 300)])
    assert not isinstance(result, TidingsError), result
    settle(hub)
    return result


def readiness(hub: Hub) -> Readiness:
    return Readiness(hub, now_s=lambda: 0.0, sleep=lambda _: None, pump_alive=lambda: True, greenlets=lambda: 0)


def in_thread(run: Callable[..., object], *arguments: object) -> bool:
    threading.Thread(target=run, args=arguments).start()
    return True


def backends(hub: Hub) -> LocalNodeApi:
    return LocalNodeApi(hub, readiness(hub), Commands(hub, in_thread))


def settle(hub: Hub) -> None:
    """Wait until all that was published or sent so far has reached the hub."""
    hub.broker.canary()


publish.number = 0  # type: ignore[attr-defined]


def opened(hub: Hub, clock: Clock, user: str = "u", *patterns: str, expires_in_s: float = 600) -> Session[Connection]:
    token = issue(user, key=SECRET, channels=patterns or ("*",), now_s=clock.now_s, expires_in_s=expires_in_s)
    return hub.open(Recorder(), hub.authenticator.authenticate(token, "here"))


def recorder(session: Session[Connection]) -> Recorder:
    assert isinstance(session.connection, Recorder)
    return session.connection


def joined(hub: Hub, session: Session[Connection], *channels: str, since: str | None = None) -> PendingSubscription:
    pending = subscribe(hub, session, channels, None if since is None else Cursor.parse(since))
    go_live(hub, session, pending, hub_event("tidings:ready", {}))
    return pending


class TestSubscribe:
    def test_live_publications_follow_the_answer(self, hub: Hub, clock: Clock) -> None:
        session = opened(hub, clock)
        publish(hub, "orders:1", "before")
        joined(hub, session, "orders:1")
        publish(hub, "orders:1", "after")
        assert recorder(session).names() == ["tidings:ready", "ev"]
        assert recorder(session).data() == ["after"]

    def test_missed_publications_come_first_ordered_across_channels(self, hub: Hub, clock: Clock) -> None:
        session = opened(hub, clock)
        joined(hub, session, "orders:1", "orders:2")
        cursor = publish(hub, "orders:1", 0).cursor
        for number in range(1, 7):
            publish(hub, f"orders:{number % 2 + 1}", number)
        again = opened(hub, clock)
        answer = joined(hub, again, "orders:1", "orders:2", since=cursor)
        assert recorder(again).data() == [1, 2, 3, 4, 5, 6]
        assert answer.answers == {"orders:1": {"recovered": True}, "orders:2": {"recovered": True}}

    def test_publications_during_a_subscribe_are_held_and_delivered_once(self, hub: Hub, clock: Clock) -> None:
        first = opened(hub, clock)
        joined(hub, first, "orders:1")
        cursor = publish(hub, "orders:1", 0).cursor
        publish(hub, "orders:1", 1)
        again = opened(hub, clock)
        pending = subscribe(hub, again, ["orders:1"], Cursor.parse(cursor))
        publish(hub, "orders:1", 2)
        publish(hub, "orders:1", 3)
        assert recorder(again).said == []
        go_live(hub, again, pending)
        publish(hub, "orders:1", 4)
        assert recorder(again).data() == [1, 2, 3, 4]
        assert recorder(first).data() == [0, 1, 2, 3, 4]

    def test_the_first_cursor_is_not_past_pending_publications(self, hub: Hub, clock: Clock) -> None:
        session = opened(hub, clock)
        fresh = subscribe(hub, session, ["orders:1"], None)
        before = str(fresh.cursor)
        held = publish(hub, "orders:1", 1)
        publish(hub, "orders:2", 2)
        fresh.position = Cursor.parse(publish(hub, "orders:2", 3).cursor)
        assert fresh.cursor == Cursor.parse(before)
        assert fresh.cursor.seq < Cursor.parse(held.cursor).seq
        go_live(hub, session, fresh)
        again = subscribe(hub, opened(hub, clock), ["orders:1"], Cursor.parse(before))
        assert [frame.seq for frame in again.missed] == [Cursor.parse(held.cursor).seq]
        assert str(again.cursor) == before
        assert subscribe(hub, opened(hub, clock), ["orders:1"], again.position).cursor == again.position

    def test_a_channel_without_its_history_is_not_recovered_but_others_are(self, hub: Hub, clock: Clock) -> None:
        session = opened(hub, clock)
        joined(hub, session, "orders:1", "orders:2")
        cursor = publish(hub, "orders:1", 0).cursor
        for number in range(60):
            publish(hub, "orders:1", number)
        publish(hub, "orders:2", "kept")
        again = opened(hub, clock)
        answer = joined(hub, again, "orders:1", "orders:2", since=cursor)
        assert answer.answers == {"orders:1": {"recovered": False}, "orders:2": {"recovered": True}}
        assert recorder(again).data() == ["kept"]

    def test_a_cursor_of_another_epoch_recovers_nothing(self, hub: Hub, clock: Clock) -> None:
        publish(hub, "orders:1", 0)
        session = opened(hub, clock)
        assert joined(hub, session, "orders:1", since="other.0").answers == {"orders:1": {"recovered": False}}

    def test_a_volatile_channel_is_recovered_only_if_nothing_was_published(self, hub: Hub, clock: Clock) -> None:
        session = opened(hub, clock)
        position = str(joined(hub, session, "ticks:1").position)
        assert joined(hub, opened(hub, clock), "ticks:1", since=position).answers == {"ticks:1": {"recovered": True}}
        publish(hub, "ticks:1", 1)
        assert joined(hub, opened(hub, clock), "ticks:1", since=position).answers == {"ticks:1": {"recovered": False}}

    def test_a_recovery_larger_than_the_out_buffer_is_refused(self, hub: Hub, clock: Clock) -> None:
        session = opened(hub, clock)
        joined(hub, session, "big:1", "orders:1")
        cursor = publish(hub, "orders:1", 0).cursor
        for _ in range(5):
            publish(hub, "big:1", "x" * 10_000)
        publish(hub, "orders:1", "small")
        again = opened(hub, clock)
        answer = joined(hub, again, "big:1", "orders:1", since=cursor)
        assert answer.answers == {"big:1": {"recovered": False}, "orders:1": {"recovered": True}}
        assert recorder(again).data() == ["small"]

    def test_too_much_while_joining_closes_the_connection_as_slow(self, hub: Hub, clock: Clock) -> None:
        session = opened(hub, clock)
        pending = subscribe(hub, session, ["orders:1"], None)
        for number in range(9):
            publish(hub, "orders:1", number)
        go_live(hub, session, pending)
        assert recorder(session).data() == [0, 1, 2, 3, 4]
        assert recorder(session).code == "slow"
        assert hub.metrics.held_overflows == 1

    def test_a_loss_during_a_subscribe_is_reported(self, hub: Hub, clock: Clock) -> None:
        session = opened(hub, clock)
        cursor = publish(hub, "orders:1", 0).cursor
        pending = subscribe(hub, session, ["orders:1", "orders:2"], Cursor.parse(cursor))
        assert pending.answers["orders:1"] == {"recovered": True}
        hub.on_loss(["orders:1"], pending.position)
        go_live(hub, session, pending)
        assert pending.answers["orders:1"] == {"recovered": False}

    def test_a_connection_that_closed_while_joining_leaves_nothing_behind(self, hub: Hub, clock: Clock) -> None:
        session = opened(hub, clock)
        pending = subscribe(hub, session, ["orders:1"], None)
        hub.close(session)
        go_live(hub, session, pending)
        publish(hub, "orders:1", 1)
        assert recorder(session).said == []
        assert len(hub.subscriptions) == 0
        assert hub.metrics.sessions == 0

    def test_a_failing_broker_leaves_no_subscription(self, hub: Hub, clock: Clock) -> None:
        session = opened(hub, clock)
        hub.broker.subscribe = refuse  # type: ignore[method-assign]
        with pytest.raises(ConnectionError):
            subscribe(hub, session, ["orders:1"], None)
        assert len(hub.subscriptions) == 0


def refuse(channels: Sequence[str]) -> None:
    raise ConnectionError(channels)


class TestFanOut:
    def test_a_gap_is_sent_to_subscribers(self, hub: Hub, clock: Clock) -> None:
        one, other = opened(hub, clock), opened(hub, clock)
        joined(hub, one, "orders:1", "orders:2")
        joined(hub, other, "orders:3")
        hub.on_loss(["orders:1", "orders:2", "orders:9"], Cursor("e", 7))
        said = recorder(one).said[-1]
        assert said[0] == "tidings:gap"
        assert said[1] == {
            "cursor": "e.7",
            "channels": {"orders:1": {"recovered": False}, "orders:2": {"recovered": False}},
        }
        assert recorder(other).names() == ["tidings:ready"]

    def test_a_closed_session_leaves_nothing_behind(self, hub: Hub, clock: Clock) -> None:
        for number in range(50):
            session = opened(hub, clock, f"u{number}")
            joined(hub, session, f"orders:{number}", "orders:all")
            hub.close(session)
            hub.close(session)
        assert len(hub.subscriptions) == 0
        assert (hub.metrics.sessions, hub.metrics.subscriptions, hub.metrics.channels) == (0, 0, 0)
        assert len(hub.sessions()) == 0


class TestSessions:
    def test_an_expired_token_ends_the_session(self, hub: Hub, clock: Clock) -> None:
        session = opened(hub, clock, expires_in_s=100)
        hub.tick()
        assert recorder(session).said == []
        clock.now_s += 75
        hub.tick()
        assert recorder(session).names() == ["tidings:expiring"]
        clock.now_s += 30
        hub.tick()
        assert recorder(session).names() == ["tidings:expiring", "tidings:close"]
        assert recorder(session).code == "expired"

    def test_a_refreshed_token_moves_the_end_and_the_rights(self, hub: Hub, clock: Clock) -> None:
        session = opened(hub, clock, "u", "orders:*", expires_in_s=100)
        joined(hub, session, "orders:1")
        with pytest.raises(Forbidden):
            hub.refresh(session, issue("v", key=SECRET, now_s=clock.now_s))
        with pytest.raises(Expired):
            hub.refresh(session, issue("u", key=SECRET, now_s=clock.now_s - 5000, expires_in_s=60))
        assert hub.refresh(session, issue("u", key=SECRET, now_s=clock.now_s, expires_in_s=500)) == ["orders:1"]
        clock.now_s += 200
        hub.tick()
        publish(hub, "orders:1", 1)
        assert recorder(session).names() == ["tidings:ready"]

    def test_revoked_users_and_tokens_are_disconnected(self, hub: Hub, clock: Clock) -> None:
        one, other = opened(hub, clock, "one"), opened(hub, clock, "other")
        order = control.revoke(user="one", jti=None, for_s=60, until_s=None, now_s=clock.now_s)
        assert backends(hub).run_command(order).connections == 1
        assert (recorder(one).code, recorder(other).code) == ("revoked", None)
        assert recorder(one).said[-1] == ["DISCONNECT"]
        with pytest.raises(Revoked):
            opened(hub, clock, "one")
        clock.now_s += 61
        opened(hub, clock, "one")

    def test_a_disconnected_user(self, hub: Hub, clock: Clock) -> None:
        one, other = opened(hub, clock, "one"), opened(hub, clock, "other")
        joined(hub, one, "user:one")
        assert backends(hub).run_command(control.disconnect(user="one", connection=None)) == CommandResult(1, 1)
        assert (recorder(one).code, recorder(other).code) == ("disconnected", None)
        assert recorder(one).names()[-1] == "tidings:close"

    def test_control_messages_of_unknown_form_do_nothing(self, hub: Hub, clock: Clock) -> None:
        session = opened(hub, clock)
        for message in (
            {},
            {"do": "revoke"},
            {"do": "revoke", "user": "u"},
            {"do": "disconnect", "user": 7},
            {"do": []},
        ):
            hub.on_control(message)  # type: ignore[arg-type]
        assert recorder(session).code is None


class TestControl:
    def test_commands_of_an_emitter_in_the_same_process(self, hub: Hub, clock: Clock) -> None:
        one, other = opened(hub, clock, "one"), opened(hub, clock, "other")
        joined(hub, one, "user:one")
        joined(hub, other, "user:other")
        with Emitter(hub.settings.broker) as emitter:
            assert emitter.subscribe(user="one", channel="orders:1") == CommandResult(1, 1)
            receipt = emitter.emit("ev", 1, channel="orders:1")
            assert [each["data"] for each in emitter.history("orders:1").publications] == [1]
            assert emitter.history("orders:1", since=receipt.cursor).publications == []
            settle(hub)
            assert emitter.unsubscribe(user="one", channel="orders:1") == CommandResult(1, 1)
            assert emitter.disconnect(user="one") == CommandResult(1, 1)
            assert emitter.disconnect(connection=other.id) == CommandResult(1, 1)
            assert emitter.revoke(user="one", for_s=60).nodes == 1
        assert recorder(one).names() == [
            *("tidings:ready", "tidings:subscribed", "ev", "tidings:unsubscribed", "tidings:close")
        ]
        assert recorder(other).code == "disconnected"

    def test_commands_of_an_async_emitter(self, hub: Hub, clock: Clock) -> None:
        session = opened(hub, clock, "one")
        joined(hub, session, "user:one")

        async def orders() -> list[CommandResult]:
            async with AsyncEmitter(hub.settings.broker) as emitter:
                await emitter.emit("ev", 1, channel="orders:1")
                assert len((await emitter.history("orders:1")).publications) == 1
                assert await emitter.nodes() == []
                return [
                    await emitter.subscribe(user="one", channel="orders:1"),
                    await emitter.unsubscribe(user="one", channel="orders:1"),
                    await emitter.disconnect(user="one"),
                    await emitter.revoke(jti="x", for_s=5),
                ]

        assert asyncio.run(orders()) == [
            CommandResult(1, 1),
            CommandResult(1, 1),
            CommandResult(1, 1),
            CommandResult(0, 1),
        ]

    def test_invalid_commands_are_refused_before_they_are_sent(self, hub: Hub) -> None:
        with Emitter(hub.settings.broker) as emitter:
            for wrong in (
                emitter.disconnect,
                lambda: emitter.disconnect(user="a", connection="b"),
                lambda: emitter.disconnect(connection="a b"),
                lambda: emitter.disconnect(user="a b"),
                lambda: emitter.revoke(user="a"),
                lambda: emitter.revoke(user="a", jti="b", for_s=1),
                lambda: emitter.revoke(user="a", for_s=0),
                lambda: emitter.revoke(user="a", for_s=float("nan")),
                lambda: emitter.revoke(user="a", for_s=1, until_s=1),
                lambda: emitter.subscribe(user="a", channel="orders"),
                lambda: emitter.unsubscribe(user="a", channel="user:a"),
                lambda: emitter.history("orders:1", limit=0),
            ):
                with pytest.raises(CallerError):
                    wrong()
        assert hub.metrics.control_messages == 0

    def test_a_command_during_a_recovery_subscribes_afterwards(self, hub: Hub, clock: Clock) -> None:
        """A publication of the new channel would carry the client's cursor past what it has yet to be given."""
        cursor = publish(hub, "orders:1", 0).cursor
        publish(hub, "orders:1", "missed")
        session = opened(hub, clock, "one")
        pending = subscribe(hub, session, ["user:one", "orders:1"], Cursor.parse(cursor))
        done: list[CommandResult] = []
        with Emitter(hub.settings.broker, timeout_s=30) as emitter:
            asking = threading.Thread(
                target=lambda: done.append(emitter.subscribe(user="one", channel="orders:2")), daemon=True
            )
            asking.start()
            wait_until(lambda: hub.metrics.control_messages == 1, why="the order has come")
            publish(hub, "orders:2", "early")
            assert recorder(session).said == []
            go_live(hub, session, pending, hub_event("tidings:ready", {}))
            asking.join(30)
        assert done == [CommandResult(1, 1)]
        publish(hub, "orders:2", "late")
        assert recorder(session).names() == ["tidings:ready", "ev", "tidings:subscribed", "ev"]
        assert recorder(session).data() == ["missed", "late"]

    def test_the_cursor_of_a_subscription_is_not_past_sent_publications(self, hub: Hub, clock: Clock) -> None:
        session = opened(hub, clock, "one")
        joined(hub, session, "user:one", "orders:1")
        before = Cursor.parse(publish(hub, "orders:1", 1).cursor)
        with Emitter(hub.settings.broker) as emitter:
            emitter.subscribe(user="one", channel="orders:2")
        after = publish(hub, "orders:2", 2)
        told = next(said[1]["cursor"] for said in recorder(session).said if said[0] == "tidings:subscribed")
        assert Cursor.parse(told) == before
        again = opened(hub, clock, "one", "*")
        joined(hub, again, "orders:1", "orders:2", since=told)
        assert recorder(again).data() == [2]
        assert recorder(session).said[-1][3] == after.cursor

    def test_a_doubt_during_a_recovery_is_reported_immediately(self, hub: Hub, clock: Clock) -> None:
        cursor = Cursor.parse(publish(hub, "orders:1", 0).cursor)
        joined(hub, opened(hub, clock), "orders:1", "orders:2")
        publish(hub, "orders:1", "missed")
        publish(hub, "orders:2", "other")
        session = opened(hub, clock)
        pending = subscribe(hub, session, ["orders:1", "orders:2"], cursor)
        assert not hub.on_doubt(["orders:1"], cursor.seq, cursor.seq, pending.position)
        go_live(hub, session, pending, hub_event("tidings:ready", pending.final_answers()))
        assert recorder(session).said[0][1] == {"orders:1": {"recovered": False}, "orders:2": {"recovered": True}}
        assert recorder(session).data() == ["other"]
        assert hub.on_doubt(["orders:2"], cursor.seq, cursor.seq, pending.position)
        assert recorder(session).said[-1][1]["channels"] == {"orders:2": {"recovered": False}}

    def test_a_command_without_a_free_worker_is_counted(self, hub: Hub, clock: Clock) -> None:
        joined(hub, opened(hub, clock, "one"), "user:one")
        Commands(hub, lambda *_: False).on_command({"do": "disconnect", "user": "one", "reply": "x"})
        assert hub.metrics.control_unanswered == 1


class TestAuthentication:
    def test_a_client_without_a_valid_token_is_rejected(self, hub: Hub) -> None:
        for token in (None, "", "x", 7, {}):
            with pytest.raises(Unauthorized):
                hub.authenticator.authenticate(token, "here")
        assert hub.metrics.auth_failures["unauthorized"] == 5

    def test_an_address_with_many_invalid_tokens_is_throttled(self, hub: Hub, clock: Clock) -> None:
        for _ in range(60):
            with pytest.raises(Unauthorized):
                hub.authenticator.authenticate("x", "there")
        with pytest.raises(TooFast):
            hub.authenticator.authenticate("x", "there")
        good = issue("u", key=SECRET, now_s=clock.now_s)
        assert hub.authenticator.authenticate(good, "there").sub == "u"
        with pytest.raises(Unauthorized):
            hub.authenticator.authenticate("x", "elsewhere")
        assert hub.metrics.auth_throttled == 1
