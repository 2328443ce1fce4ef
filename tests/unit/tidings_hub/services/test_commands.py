from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence

import pytest

from support.recording_hub import Clock, join, node_api, open_session, publish, recorder, settle
from support.waiting import wait_until
from tidings import AsyncEmitter, Emitter
from tidings.errors import CallerError, Revoked
from tidings.wire import control
from tidings.wire.control import CommandResult
from tidings.wire.cursor import Cursor
from tidings_hub.services.commands import Commands
from tidings_hub.services.hub import Hub
from tidings_hub.services.hub_event import hub_event
from tidings_hub.services.subscribe import go_live, subscribe


def nested(depth: int) -> object:
    value: object = []
    for _ in range(depth):
        value = [value]
    return value


def during(hub: Hub, monkeypatch: pytest.MonkeyPatch, action: Callable[[], object]) -> None:
    """Run `action` while the broker subscribes the node to a channel, once."""
    subscribe_at_broker = hub.broker.subscribe

    def subscribe_then_act(channels: Sequence[str]) -> None:
        monkeypatch.setattr(hub.broker, "subscribe", subscribe_at_broker)
        subscribe_at_broker(channels)
        action()

    monkeypatch.setattr(hub.broker, "subscribe", subscribe_then_act)


class TestCommands:
    def test_commands_of_an_emitter_in_the_same_process_are_run(self, hub: Hub, clock: Clock) -> None:
        target, other = open_session(hub, clock, "one"), open_session(hub, clock, "other")
        join(hub, target, "user:one")
        join(hub, other, "user:other")
        with Emitter(hub.settings.broker) as emitter:
            assert emitter.subscribe(user="one", channel="orders:1") == CommandResult(1, 1)
            receipt = emitter.emit("ev", 1, channel="orders:1")
            assert [publication["data"] for publication in emitter.history("orders:1").publications] == [1]
            assert emitter.history("orders:1", since=receipt.cursor).publications == []
            settle(hub)
            assert emitter.unsubscribe(user="one", channel="orders:1") == CommandResult(1, 1)
            assert emitter.disconnect(user="one") == CommandResult(1, 1)
            assert emitter.disconnect(connection=other.id) == CommandResult(1, 1)
            assert emitter.revoke(user="one", for_s=60).nodes == 1
        assert recorder(target).names() == [
            *("tidings:ready", "tidings:subscribed", "ev", "tidings:unsubscribed", "tidings:close")
        ]
        assert recorder(other).code == "disconnected"

    def test_commands_of_an_async_emitter_are_run(self, hub: Hub, clock: Clock) -> None:
        session = open_session(hub, clock, "one")
        join(hub, session, "user:one")

        async def send_commands() -> list[CommandResult]:
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

        assert asyncio.run(send_commands()) == [
            CommandResult(1, 1),
            CommandResult(1, 1),
            CommandResult(1, 1),
            CommandResult(0, 1),
        ]

    def test_invalid_commands_are_refused_before_they_are_sent(self, hub: Hub) -> None:
        with Emitter(hub.settings.broker) as emitter:
            for call in (
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
                    call()
        assert hub.metrics.control_messages == 0

    def test_a_command_during_a_recovery_subscribes_afterwards(self, hub: Hub, clock: Clock) -> None:
        """A publication of the new channel would move the client's cursor past missed publications."""
        cursor = publish(hub, "orders:1", 0).cursor
        publish(hub, "orders:1", "missed")
        session = open_session(hub, clock, "one")
        pending = subscribe(hub, session, ["user:one", "orders:1"], Cursor.parse(cursor))
        results: list[CommandResult] = []
        with Emitter(hub.settings.broker, timeout_s=30) as emitter:
            request = threading.Thread(
                target=lambda: results.append(emitter.subscribe(user="one", channel="orders:2")), daemon=True
            )
            request.start()
            wait_until(lambda: hub.metrics.control_messages == 1, why="the hub received the command")
            publish(hub, "orders:2", "early")
            assert recorder(session).events == []
            go_live(hub, session, pending, hub_event("tidings:ready", {}))
            request.join(30)
        assert results == [CommandResult(1, 1)]
        publish(hub, "orders:2", "late")
        assert recorder(session).names() == ["tidings:ready", "ev", "tidings:subscribed", "ev"]
        assert recorder(session).data() == ["missed", "late"]

    @pytest.mark.parametrize("patterns", [("chat:*",), ("*",)])
    def test_unsubscription_ends_a_subscription_that_waits(
        self, hub: Hub, clock: Clock, patterns: tuple[str, ...]
    ) -> None:
        session = open_session(hub, clock, "one", *patterns)
        pending = subscribe(hub, session, ["user:one"], None)
        results: list[CommandResult] = []
        with Emitter(hub.settings.broker, timeout_s=30) as emitter:
            request = threading.Thread(
                target=lambda: results.append(emitter.subscribe(user="one", channel="orders:1")), daemon=True
            )
            request.start()
            wait_until(lambda: hub.metrics.control_messages == 1, why="the hub received the command")
            assert emitter.unsubscribe(user="one", channel="orders:1") == CommandResult(0, 1)
            go_live(hub, session, pending, hub_event("tidings:ready", {}))
            request.join(30)
            assert results == [CommandResult(0, 1)]
            publish(hub, "orders:1", "late")
            assert recorder(session).names() == ["tidings:ready"]
            # The next subscription is a new one.
            assert emitter.subscribe(user="one", channel="orders:1") == CommandResult(1, 1)

    def test_unsubscription_ends_a_subscription_at_the_broker(
        self, hub: Hub, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        session = open_session(hub, clock, "one", "chat:*")
        join(hub, session, "user:one")
        with Emitter(hub.settings.broker, timeout_s=30) as emitter:
            during(hub, monkeypatch, lambda: emitter.unsubscribe(user="one", channel="orders:1"))
            assert emitter.subscribe(user="one", channel="orders:1") == CommandResult(0, 1)
        publish(hub, "orders:1", "late")
        assert recorder(session).names() == ["tidings:ready"]
        assert (set(session.channels), session.granted) == ({"user:one"}, frozenset())
        assert "orders:1" not in hub.subscriptions

    def test_unsubscription_ends_what_a_client_subscribes_to_by_a_grant(
        self, hub: Hub, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        session = open_session(hub, clock, "one", "chat:*")
        join(hub, session, "user:one")
        cursor = publish(hub, "orders:1", "missed").cursor
        with Emitter(hub.settings.broker, timeout_s=30) as emitter:
            emitter.subscribe(user="one", channel="orders:1")
            publish(hub, "orders:1", "early")
            hub.unsubscribe(session, ["orders:1"])

            def withdraw() -> None:
                emitter.unsubscribe(user="one", channel="orders:1")
                publish(hub, "orders:1", "held")

            during(hub, monkeypatch, withdraw)
            answers = join(hub, session, "orders:1", since=cursor).answers
        publish(hub, "orders:1", "late")
        assert answers["orders:1"]["error"]["code"] == "forbidden"  # type: ignore[index]
        assert recorder(session).data() == ["early"]
        assert recorder(session).events[-1][:2] == ["tidings:unsubscribed", {"channels": ["orders:1"]}]
        assert set(session.channels) == {"user:one"}
        assert "orders:1" not in hub.subscriptions

    def test_the_cursor_of_a_subscription_is_not_past_sent_publications(self, hub: Hub, clock: Clock) -> None:
        session = open_session(hub, clock, "one")
        join(hub, session, "user:one", "orders:1")
        before = Cursor.parse(publish(hub, "orders:1", 1).cursor)
        with Emitter(hub.settings.broker) as emitter:
            emitter.subscribe(user="one", channel="orders:2")
        after = publish(hub, "orders:2", 2)
        cursor = next(event[1]["cursor"] for event in recorder(session).events if event[0] == "tidings:subscribed")
        assert Cursor.parse(cursor) == before
        resumed = open_session(hub, clock, "one", "*")
        join(hub, resumed, "orders:1", "orders:2", since=cursor)
        assert recorder(resumed).data() == [2]
        assert recorder(session).events[-1][3] == after.cursor

    def test_a_command_without_a_free_worker_is_counted(self, hub: Hub, clock: Clock) -> None:
        join(hub, open_session(hub, clock, "one"), "user:one")
        Commands(hub, lambda *_: False).on_command({"do": "disconnect", "user": "one", "reply": "x"})
        assert hub.metrics.control_unanswered == 1

    def test_revoked_users_and_tokens_are_disconnected(self, hub: Hub, clock: Clock) -> None:
        revoked, other = open_session(hub, clock, "one"), open_session(hub, clock, "other")
        command = control.revoke(user="one", jti=None, for_s=60, until_s=None, now_s=clock.now_s)
        assert node_api(hub).run_command(command).connections == 1
        assert (recorder(revoked).code, recorder(other).code) == ("revoked", None)
        assert recorder(revoked).events[-1] == ["DISCONNECT"]
        with pytest.raises(Revoked):
            open_session(hub, clock, "one")
        clock.now_s += 61
        open_session(hub, clock, "one")

    def test_disconnect_closes_all_connections_of_a_user(self, hub: Hub, clock: Clock) -> None:
        target, other = open_session(hub, clock, "one"), open_session(hub, clock, "other")
        join(hub, target, "user:one")
        assert node_api(hub).run_command(control.disconnect(user="one", connection=None)) == CommandResult(1, 1)
        assert (recorder(target).code, recorder(other).code) == ("disconnected", None)
        assert recorder(target).names()[-1] == "tidings:close"

    def test_stored_revocations_are_read_on_request(self, hub: Hub, clock: Clock) -> None:
        revoked, other = open_session(hub, clock, "one"), open_session(hub, clock, "other")
        hub.broker.write_revocations({"user:one": clock.now_s + 60})
        command = control.Command("read_revocations", {})
        assert node_api(hub).run_command(command).connections == 1
        assert (recorder(revoked).code, recorder(other).code) == ("revoked", None)

    def test_malformed_control_messages_are_ignored(self, hub: Hub, clock: Clock) -> None:
        session = open_session(hub, clock)
        for message in (
            {},
            {"do": "revoke"},
            {"do": "revoke", "user": "u"},
            {"do": "disconnect", "user": 7},
            {"do": []},
            {"do": "list", "what": "channels", "limit": float("inf")},
            {"do": "unsubscribe", "user": nested(5_000), "channel": "orders:1"},
            {"do": "revoke", "user": "\ud800", "until_s": 9e9},
            {"do": "revoke", "jti": "\ud800", "until_s": 9e9},
            *(
                {"do": "revoke", "user": "u", "until_s": 9e9, "reply": name}
                for name in ("\ud800", 7, nested(900), "r" * 201)
            ),
        ):
            hub.on_control(message)  # type: ignore[arg-type]
        settle(hub)
        assert recorder(session).code is None
        assert hub.metrics.worker_errors == {}
        assert hub.revocations.sync() == 0
        assert hub.metrics.revocations == 0
