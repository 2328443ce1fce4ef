from __future__ import annotations

from collections.abc import Sequence

import pytest

from support.recording_hub import Clock, join, open_session, publish, recorder
from tidings.wire.cursor import Cursor
from tidings_hub.core.resumable_session import JoinMode, ResumableSession, Resume, plan_resume
from tidings_hub.services.hub import Hub
from tidings_hub.services.hub_event import hub_event
from tidings_hub.services.subscribe import go_live, subscribe


def with_new_channels(hub: Hub, *, per_minute: int, burst: int) -> None:
    hub.settings = hub.settings.model_copy(
        update={"new_channels_per_minute": per_minute, "new_channels_burst": burst, "channels_per_connection": 10_000}
    )


class TestShortenedNames:
    def test_shortened_name_does_not_take_the_answer_of_a_channel(self, hub: Hub, clock: Clock) -> None:
        valid = f"{'o' * 64}:{'x' * 135}"
        too_long = f"{valid}y"
        session = open_session(hub, clock)
        pending = subscribe(hub, session, [valid, too_long], None, [valid, too_long])
        reply = pending.reply()
        assert len(valid) == 200
        for part in ("channels", "presence"):
            assert len(reply[part]) == 2, reply
            assert {len(name) for name in reply[part]} == {200, 201}
        codes = {name: answer["error"]["code"] for name, answer in reply["channels"].items()}  # type: ignore[index]
        assert codes[f"{valid}…"] == "bad_channel"
        assert codes[valid] == "unknown_namespace"


class TestNewChannels:
    def test_new_channels_beyond_the_rate_are_refused(
        self, hub: Hub, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        with_new_channels(hub, per_minute=60, burst=3)
        session = open_session(hub, clock)
        names = [f"orders:{number}" for number in range(5)]
        answers = join(hub, session, "user:u", *names).answers
        assert [name for name in names if "error" in answers[name]] == names[3:]
        assert answers[names[3]]["error"]["code"] == "too_fast"  # type: ignore[index]
        assert set(session.channels) == {"user:u", *names[:3]}
        assert hub.metrics.new_channels_refused == 2
        join(hub, session, names[4])
        lines = [record.getMessage() for record in caplog.records if "new_channels" in record.getMessage()]
        assert lines == [
            (
                "user u uses new channels faster than new_channels_per_minute = 60 and new_channels_burst = 3 allow;"
                " orders:3 is refused with too_fast"
            )
        ]
        clock.now_s += 2
        assert "error" not in join(hub, session, names[3], names[4]).answers[names[4]]

    def test_channels_with_a_subscriber_are_not_new(self, hub: Hub, clock: Clock) -> None:
        names = [f"orders:{number}" for number in range(5)]
        join(hub, open_session(hub, clock, "another"), *names)
        with_new_channels(hub, per_minute=60, burst=1)
        answers = join(hub, open_session(hub, clock), *names).answers
        assert all("error" not in answer for answer in answers.values())

    def test_crowd_that_returns_with_all_its_channels_is_not_refused(self, hub: Hub, clock: Clock) -> None:
        for user in range(40):
            names = [f"orders:{user}-{number}" for number in range(hub.settings.channels_per_connection - 1)]
            session = open_session(hub, clock, f"u{user}")
            answers = join(hub, session, f"user:u{user}", *names).answers
            assert all("error" not in answer for answer in answers.values())
        assert hub.metrics.new_channels_refused == 0

    def test_resumed_session_keeps_its_channels(self, hub: Hub, clock: Clock) -> None:
        with_new_channels(hub, per_minute=60, burst=1)
        names = [f"orders:{number}" for number in range(5)]
        stored = ResumableSession("sid", "old", "u", jti="")
        stored.add_channels(JoinMode.FROM_POSITION, str(hub.broker.position), names)
        resume = plan_resume(stored, str(hub.broker.position), None)
        assert isinstance(resume, Resume)
        pending = subscribe(hub, open_session(hub, clock), names, hub.broker.position, (), resume)
        assert [pending.answers[name] for name in names] == [{"recovered": True}] * 5


class TestNames:
    def test_names_beyond_twice_the_limit_are_rejected_unchecked(self, hub: Hub, clock: Clock) -> None:
        hub.settings = hub.settings.model_copy(update={"channels_per_connection": 200})
        session = open_session(hub, clock)
        names = [f"unknown:{number}" for number in range(399)]
        answers = join(hub, session, *names, "orders:1", *["orders:1"] * 5, "orders:2", "no channel").answers
        assert "error" not in answers["orders:1"]
        codes = [answers[name]["error"]["code"] for name in (names[0], "orders:2", "no channel")]  # type: ignore[index]
        assert codes == ["unknown_namespace", "too_many_channels", "too_many_channels"]
        assert hub.metrics.channels_refused == 2

    def test_names_of_presence_have_the_same_bound(self, hub: Hub, clock: Clock) -> None:
        names = [f"orders:{number}" for number in range(257)]
        pending = subscribe(hub, open_session(hub, clock), ["orders:1"], None, names)
        codes = [pending.reply()["presence"][name]["error"]["code"] for name in names[255:]]  # type: ignore[index]
        assert codes == ["forbidden", "too_many_channels"]


class TestSubscribe:
    def test_live_publications_follow_the_reply(self, hub: Hub, clock: Clock) -> None:
        session = open_session(hub, clock)
        publish(hub, "orders:1", "before")
        join(hub, session, "orders:1")
        publish(hub, "orders:1", "after")
        assert recorder(session).names() == ["tidings:ready", "ev"]
        assert recorder(session).data() == ["after"]

    def test_missed_publications_precede_live_ones_in_one_order(self, hub: Hub, clock: Clock) -> None:
        session = open_session(hub, clock)
        join(hub, session, "orders:1", "orders:2")
        cursor = publish(hub, "orders:1", 0).cursor
        for number in range(1, 7):
            publish(hub, f"orders:{number % 2 + 1}", number)
        resumed = open_session(hub, clock)
        reply = join(hub, resumed, "orders:1", "orders:2", since=cursor)
        assert recorder(resumed).data() == [1, 2, 3, 4, 5, 6]
        assert reply.answers == {"orders:1": {"recovered": True}, "orders:2": {"recovered": True}}

    def test_publications_during_a_subscribe_are_held_and_delivered_once(self, hub: Hub, clock: Clock) -> None:
        first = open_session(hub, clock)
        join(hub, first, "orders:1")
        cursor = publish(hub, "orders:1", 0).cursor
        publish(hub, "orders:1", 1)
        resumed = open_session(hub, clock)
        pending = subscribe(hub, resumed, ["orders:1"], Cursor.parse(cursor))
        publish(hub, "orders:1", 2)
        publish(hub, "orders:1", 3)
        assert recorder(resumed).events == []
        go_live(hub, resumed, pending)
        publish(hub, "orders:1", 4)
        assert recorder(resumed).data() == [1, 2, 3, 4]
        assert recorder(first).data() == [0, 1, 2, 3, 4]

    def test_the_first_cursor_is_not_past_pending_publications(self, hub: Hub, clock: Clock) -> None:
        session = open_session(hub, clock)
        fresh = subscribe(hub, session, ["orders:1"], None)
        before = str(fresh.cursor)
        first_receipt = publish(hub, "orders:1", 1)
        publish(hub, "orders:2", 2)
        fresh.position = Cursor.parse(publish(hub, "orders:2", 3).cursor)
        assert fresh.cursor == Cursor.parse(before)
        assert fresh.cursor.seq < Cursor.parse(first_receipt.cursor).seq
        go_live(hub, session, fresh)
        repeated = subscribe(hub, open_session(hub, clock), ["orders:1"], Cursor.parse(before))
        assert [frame.seq for frame in repeated.missed] == [Cursor.parse(first_receipt.cursor).seq]
        assert str(repeated.cursor) == before
        assert subscribe(hub, open_session(hub, clock), ["orders:1"], repeated.position).cursor == repeated.position

    def test_a_channel_without_its_history_is_not_recovered_but_others_are(self, hub: Hub, clock: Clock) -> None:
        session = open_session(hub, clock)
        join(hub, session, "orders:1", "orders:2")
        cursor = publish(hub, "orders:1", 0).cursor
        for number in range(60):
            publish(hub, "orders:1", number)
        publish(hub, "orders:2", "stored")
        resumed = open_session(hub, clock)
        reply = join(hub, resumed, "orders:1", "orders:2", since=cursor)
        assert reply.answers == {"orders:1": {"recovered": False}, "orders:2": {"recovered": True}}
        assert recorder(resumed).data() == ["stored"]

    def test_a_cursor_of_another_epoch_recovers_nothing(self, hub: Hub, clock: Clock) -> None:
        publish(hub, "orders:1", 0)
        session = open_session(hub, clock)
        assert join(hub, session, "orders:1", since="other.0").answers == {"orders:1": {"recovered": False}}

    def test_a_volatile_channel_is_recovered_only_if_nothing_was_published(self, hub: Hub, clock: Clock) -> None:
        first = open_session(hub, clock)
        position = str(join(hub, first, "ticks:1").position)
        assert join(hub, open_session(hub, clock), "ticks:1", since=position).answers == {
            "ticks:1": {"recovered": True}
        }
        publish(hub, "ticks:1", 1)
        assert join(hub, open_session(hub, clock), "ticks:1", since=position).answers == {
            "ticks:1": {"recovered": False}
        }

    def test_a_recovery_larger_than_the_out_buffer_is_refused(self, hub: Hub, clock: Clock) -> None:
        session = open_session(hub, clock)
        join(hub, session, "big:1", "orders:1")
        cursor = publish(hub, "orders:1", 0).cursor
        for _ in range(5):
            publish(hub, "big:1", "x" * 10_000)
        publish(hub, "orders:1", "small")
        resumed = open_session(hub, clock)
        reply = join(hub, resumed, "big:1", "orders:1", since=cursor)
        assert reply.answers == {"big:1": {"recovered": False}, "orders:1": {"recovered": True}}
        assert recorder(resumed).data() == ["small"]

    def test_too_many_publications_during_a_subscribe_close_the_connection(self, hub: Hub, clock: Clock) -> None:
        session = open_session(hub, clock)
        pending = subscribe(hub, session, ["orders:1"], None)
        for number in range(9):
            publish(hub, "orders:1", number)
        go_live(hub, session, pending)
        assert recorder(session).data() == [0, 1, 2, 3, 4]
        assert recorder(session).code == "slow"
        assert hub.metrics.held_overflows == 1

    def test_a_loss_during_a_subscribe_is_reported(self, hub: Hub, clock: Clock) -> None:
        session = open_session(hub, clock)
        cursor = publish(hub, "orders:1", 0).cursor
        pending = subscribe(hub, session, ["orders:1", "orders:2"], Cursor.parse(cursor))
        assert pending.answers["orders:1"] == {"recovered": True}
        hub.on_loss(["orders:1"], pending.position)
        go_live(hub, session, pending)
        assert pending.answers["orders:1"] == {"recovered": False}

    def test_a_connection_that_closed_during_a_subscribe_leaves_nothing_behind(self, hub: Hub, clock: Clock) -> None:
        session = open_session(hub, clock)
        pending = subscribe(hub, session, ["orders:1"], None)
        hub.close(session)
        go_live(hub, session, pending)
        publish(hub, "orders:1", 1)
        assert recorder(session).events == []
        assert len(hub.subscriptions) == 0
        assert hub.metrics.sessions == 0

    def test_a_failing_broker_leaves_no_subscription(self, hub: Hub, clock: Clock) -> None:
        session = open_session(hub, clock)
        hub.broker.subscribe = refuse  # type: ignore[method-assign]
        with pytest.raises(ConnectionError):
            subscribe(hub, session, ["orders:1"], None)
        assert len(hub.subscriptions) == 0

    def test_a_doubt_during_a_recovery_is_reported_immediately(self, hub: Hub, clock: Clock) -> None:
        cursor = Cursor.parse(publish(hub, "orders:1", 0).cursor)
        join(hub, open_session(hub, clock), "orders:1", "orders:2")
        publish(hub, "orders:1", "missed")
        publish(hub, "orders:2", "other")
        session = open_session(hub, clock)
        pending = subscribe(hub, session, ["orders:1", "orders:2"], cursor)
        assert not hub.on_doubt(["orders:1"], cursor.seq, cursor.seq, pending.position)
        go_live(hub, session, pending, hub_event("tidings:ready", pending.final_answers()))
        assert recorder(session).events[0][1] == {"orders:1": {"recovered": False}, "orders:2": {"recovered": True}}
        assert recorder(session).data() == ["other"]
        assert hub.on_doubt(["orders:2"], cursor.seq, cursor.seq, pending.position)
        assert recorder(session).events[-1][1]["channels"] == {"orders:2": {"recovered": False}}


def refuse(channels: Sequence[str]) -> None:
    raise ConnectionError(channels)
