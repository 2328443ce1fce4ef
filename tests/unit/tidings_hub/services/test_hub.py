"""Gaps and the ends of sessions."""

from __future__ import annotations

import pytest

from support.recording_hub import SECRET, Clock, join, open_session, publish, recorder
from tidings.errors import Expired, Forbidden
from tidings.tokens import issue
from tidings.wire.cursor import Cursor
from tidings_hub.services.hub import Hub


class TestFanOut:
    def test_a_gap_is_sent_to_subscribers(self, hub: Hub, clock: Clock) -> None:
        subscriber, other = open_session(hub, clock), open_session(hub, clock)
        join(hub, subscriber, "orders:1", "orders:2")
        join(hub, other, "orders:3")
        hub.on_loss(["orders:1", "orders:2", "orders:9"], Cursor("e", 7))
        gap = recorder(subscriber).events[-1]
        assert gap[0] == "tidings:gap"
        assert gap[1] == {
            "cursor": "e.7",
            "channels": {"orders:1": {"recovered": False}, "orders:2": {"recovered": False}},
        }
        assert recorder(other).names() == ["tidings:ready"]

    def test_a_closed_session_leaves_nothing_behind(self, hub: Hub, clock: Clock) -> None:
        for number in range(50):
            session = open_session(hub, clock, f"u{number}")
            join(hub, session, f"orders:{number}", "orders:all")
            hub.close(session)
            hub.close(session)
        assert len(hub.subscriptions) == 0
        assert (hub.metrics.sessions, hub.metrics.subscriptions, hub.metrics.channels) == (0, 0, 0)
        assert len(hub.sessions()) == 0


class TestSessions:
    def test_an_expired_token_closes_the_session(self, hub: Hub, clock: Clock) -> None:
        session = open_session(hub, clock, expires_in_s=100)
        hub.tick()
        assert recorder(session).events == []
        clock.now_s += 75
        hub.tick()
        assert recorder(session).names() == ["tidings:expiring"]
        # As long as CONNECT accepts the token, the session stays.
        clock.now_s += 30
        hub.tick()
        assert recorder(session).names() == ["tidings:expiring"]
        clock.now_s += hub.settings.token_leeway_s
        hub.tick()
        assert recorder(session).names() == ["tidings:expiring", "tidings:close"]
        assert recorder(session).code == "expired"

    def test_a_refreshed_token_has_its_own_expiry_and_channels(self, hub: Hub, clock: Clock) -> None:
        session = open_session(hub, clock, "u", "orders:*", expires_in_s=100)
        join(hub, session, "orders:1")
        with pytest.raises(Forbidden):
            hub.refresh(session, issue("v", key=SECRET, now_s=clock.now_s))
        with pytest.raises(Expired):
            hub.refresh(session, issue("u", key=SECRET, now_s=clock.now_s - 5000, expires_in_s=60))
        assert hub.refresh(session, issue("u", key=SECRET, now_s=clock.now_s, expires_in_s=500)) == ["orders:1"]
        clock.now_s += 200
        hub.tick()
        publish(hub, "orders:1", 1)
        assert recorder(session).names() == ["tidings:ready"]
