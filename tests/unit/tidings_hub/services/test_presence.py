"""Presence of one node on the memory broker, including a broker that fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support.limits import broker_limits
from support.recording_hub import RecordingConnection, fan_out
from support.waiting import wait_until
from tidings.errors import Forbidden, Unavailable, UnknownNamespace
from tidings.publishers.memory.publisher import MemoryPublisher
from tidings.publishers.memory.store import MemoryStore
from tidings.wire.claims import Claims
from tidings.wire.cursor import Cursor
from tidings.wire.presence import Presence, PresenceUpdate, PresenceUpdateResult, presence_channel
from tidings_hub.brokers.memory import MemoryBroker
from tidings_hub.config.settings import Settings
from tidings_hub.core.sessions import Session
from tidings_hub.metrics import Metrics
from tidings_hub.services.client_connection import Connection
from tidings_hub.services.hub import Hub
from tidings_hub.services.hub_event import hub_event
from tidings_hub.services.subscribe import go_live, subscribe

ROOM = "room:1"


class FaultyBroker(MemoryBroker):
    """A broker that rejects updates while `down`, and calls `before_reply` functions before it returns a list."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(limits=broker_limits(), store=store)
        self.down = False
        self.before_reply: list[Callable[[], object]] = []

    def update_presence(self, update: PresenceUpdate, *, part: int = 0) -> PresenceUpdateResult:
        if self.down:
            raise Unavailable("no")
        return super().update_presence(update, part=part)

    def members(self, channel: str, *, limit: int) -> Presence:
        presence = super().members(channel, limit=limit)
        if self.before_reply:
            self.before_reply.pop()()
        return presence


class BrokerOfTwoParts(FaultyBroker):
    """A broker whose second part, with the channels `room:away…`, rejects updates while `down`."""

    presence_parts = 2

    def presence_part_of(self, channel: str) -> int:
        return int(channel.startswith("room:away"))

    def update_presence(self, update: PresenceUpdate, *, part: int = 0) -> PresenceUpdateResult:
        if self.down and part == 1:
            raise Unavailable("no")
        return MemoryBroker.update_presence(self, update)


def settings(**more: Any) -> Settings:
    namespaces = {"room": {"subscribe": "public", "presence": True}, "orders": {"subscribe": "public"}}
    return Settings.model_validate({"namespaces": namespaces, "presence_grace_s": 0.05, **more})


Start = Callable[..., Hub]


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def start(store: MemoryStore) -> Iterator[Start]:
    """Starts hubs on one store."""
    hubs: list[Hub] = []

    def start(kind: type[FaultyBroker] = FaultyBroker, **more: Any) -> Hub:
        hub_settings, broker = settings(**more), kind(store)
        hub = Hub(hub_settings, broker, hub_settings.access(), None, fan_out=fan_out, metrics=Metrics())
        hubs.append(hub)
        broker.write_rules(hub_settings.broker_rules())
        broker.start(hub)
        hub.presence.start()
        return hub

    yield start
    for hub in hubs:
        hub.presence.stop()
        hub.broker.stop()


@pytest.fixture
def hub(start: Start) -> Hub:
    return start()


def faulty(hub: Hub) -> FaultyBroker:
    assert isinstance(hub.broker, FaultyBroker)
    return hub.broker


def open_session(
    hub: Hub, user: str, *channels: str, watch: tuple[str, ...] = (), info: object = None, since: str = ""
) -> Session[Connection]:
    session = hub.open(RecordingConnection(), Claims(sub=user, info=info))
    pending = subscribe(hub, session, channels, Cursor.parse(since) if since else None, watch)
    go_live(hub, session, pending, hub_event("tidings:ready", pending.reply()))
    return session


def events(session: Session[Connection], name: str) -> list[Any]:
    assert isinstance(session.connection, RecordingConnection)
    return [event for event in session.connection.events if event[0] == f"tidings:{name}"]


def test_join_and_leave_events_go_to_subscribers_of_presence(hub: Hub) -> None:
    ann, bob = open_session(hub, "ann", ROOM, watch=(ROOM,)), open_session(hub, "bob", ROOM, info={"n": 1})
    wait_until(lambda: events(ann, "join")[-1:] and events(ann, "join")[-1][1]["count"] == 2, why="both joined")
    assert hub.presence.members(ROOM).members == {"ann": None, "bob": {"n": 1}}
    hub.close(bob)
    wait_until(lambda: events(ann, "leave"), why="Bob left")
    assert events(ann, "leave")[0][1:3] == [{"users": ["bob"], "count": 1}, ROOM]
    assert [events(bob, "join"), events(bob, "leave")] == [[], []]
    assert set(ann.channels) == {ROOM, presence_channel(ROOM)}
    hub.unsubscribe(ann, [ROOM])
    assert set(ann.channels) == set()
    assert len(hub.subscriptions) == 0


def test_lost_joins_produce_a_gap_event(hub: Hub) -> None:
    ann = open_session(hub, "ann", ROOM, watch=(ROOM,))
    hub.on_loss([presence_channel(ROOM), ROOM], Cursor("e", 7))
    gap = {"cursor": "e.7", "channels": {ROOM: {"recovered": False}}, "presence": {ROOM: {"recovered": False}}}
    assert events(ann, "gap") == [["tidings:gap", gap, "e.7"]]


def fails_at_once(hub: Hub, channel: str) -> bool:
    started_s = time.monotonic()
    try:
        hub.presence.members(channel)
    except Unavailable:
        return time.monotonic() - started_s < 1
    return False


def test_part_that_is_away_does_not_affect_the_presence_of_others(start: Start) -> None:
    hub = start(BrokerOfTwoParts)
    ann = open_session(hub, "ann", ROOM, "room:away", watch=(ROOM,))
    wait_until(lambda: events(ann, "join"), why="Ann joined")
    faulty(hub).down = True
    errors = hub.metrics.presence_errors
    bob = open_session(hub, "bob", ROOM, "room:away")
    wait_until(lambda: hub.metrics.presence_errors > errors, why="an update of the other part fails")
    assert hub.presence.members(ROOM).members == {"ann": None, "bob": None}
    assert hub.metrics.presence_users == 4
    hub.unsubscribe(bob, [ROOM, "room:away"])
    wait_until(lambda: events(ann, "leave"), why="Bob left, in the part that is served")
    assert hub.presence.members(ROOM).members == {"ann": None}
    wait_until(lambda: fails_at_once(hub, "room:away"), why="no request waits for a part that is away")
    faulty(hub).down = False
    wait_until(lambda: not fails_at_once(hub, "room:away"), why="the part is written again")
    assert hub.presence.members("room:away").members == {"ann": None}
    assert hub.metrics.presence_users == 2


def test_changes_are_kept_while_the_broker_is_down(hub: Hub) -> None:
    faulty(hub).down = True
    open_session(hub, "ann", ROOM)
    bob = open_session(hub, "bob", ROOM)
    wait_until(lambda: hub.metrics.presence_errors > 0, why="an update fails")
    hub.close(bob)
    faulty(hub).down = False
    wait_until(lambda: hub.metrics.presence_users == 1, why="Bob's grace ends")
    assert hub.presence.members(ROOM).members == {"ann": None}


def test_all_members_are_written_again_after_the_broker_lost_them(hub: Hub, store: MemoryStore) -> None:
    ann = open_session(hub, "ann", ROOM, watch=(ROOM,))
    assert hub.presence.members(ROOM).count == 1
    store.epoch = "another"
    wait_until(lambda: hub.metrics.presence_begun_anew == 1, why="the node starts a new incarnation")
    open_session(hub, "bob", ROOM)
    assert hub.presence.members(ROOM).members == {"ann": None, "bob": None}
    wait_until(lambda: len(events(ann, "join")) == 2, why="Bob joined")
    store.epoch, store.seq = "yet-another", 0
    wait_until(lambda: hub.metrics.presence_begun_anew == 2, why="the node starts a new incarnation")
    assert hub.presence.members_for(ann, ROOM).members == {"ann": None, "bob": None}


def test_a_list_is_never_older_than_the_delivered_events(hub: Hub) -> None:
    ann = open_session(hub, "ann", ROOM, watch=(ROOM,))
    wait_until(lambda: events(ann, "join"), why="Ann joined")

    def another_user_joins() -> None:
        open_session(hub, "bob", ROOM)
        wait_until(lambda: len(events(ann, "join")) == 2, why="Bob joined while the list was on its way")

    faulty(hub).before_reply = [another_user_joins]
    assert hub.presence.members_for(ann, ROOM).members == {"ann": None, "bob": None}
    assert faulty(hub).before_reply == []


def test_a_list_that_is_always_outdated_is_rejected(hub: Hub) -> None:
    ann = open_session(hub, "ann", ROOM, watch=(ROOM,))
    wait_until(lambda: events(ann, "join"), why="Ann joined")
    users = iter(range(100))

    def another_user_joins() -> None:
        before = len(events(ann, "join"))
        open_session(hub, str(next(users)), ROOM)
        wait_until(lambda: len(events(ann, "join")) > before, why="one more joined")

    faulty(hub).before_reply = [another_user_joins] * 100
    with pytest.raises(Unavailable, match="request the list again"):
        hub.presence.members_for(ann, ROOM)
    faulty(hub).before_reply = []
    assert hub.presence.members_for(ann, ROOM).count == next(users) + 1


def test_only_subscribers_may_request_the_list(hub: Hub) -> None:
    session = open_session(hub, "ann", "orders:1")
    for channel, error in ((ROOM, Forbidden), ("orders:1", Forbidden), ("nowhere:1", UnknownNamespace)):
        with pytest.raises(error):
            hub.presence.members_for(session, channel)


def test_no_updates_are_sent_without_presence(start: Start) -> None:
    hub = start(namespaces={"orders": {"subscribe": "public"}})
    open_session(hub, "ann", "orders:1")
    hub.presence.stop()
    assert hub.metrics.presence_turns == 0


def test_lists_are_limited_in_users_and_bytes(start: Start) -> None:
    hub = start(presence_list_max=3, out_buffer_bytes=16_384)
    for number in range(3):
        open_session(hub, f"u{number}", ROOM)
    assert len(hub.presence.members(ROOM).members or ()) == 3
    open_session(hub, "u4", ROOM)
    assert (hub.presence.members(ROOM).count, hub.presence.members(ROOM).members) == (4, None)
    assert hub.metrics.presence_lists_refused == 2
    hub = start(presence_list_max=30, out_buffer_bytes=16_384)
    last = [open_session(hub, f"u{number}", "room:fat", info={"text": "x" * 490}) for number in range(20)][-1]
    assert len(hub.presence.members("room:fat").members or ()) == 20
    assert (hub.presence.members_for(last, "room:fat").count, hub.metrics.presence_lists_refused) == (20, 1)
    assert hub.presence.members_for(last, "room:fat").members is None


def test_presence_channels_count_against_the_channel_limit(start: Start) -> None:
    hub = start(channels_per_connection=3)
    session = open_session(hub, "ann", ROOM, "room:2", watch=(ROOM, "room:2"))
    (ready,) = events(session, "ready")
    assert ready[1]["presence"][ROOM] == {"recovered": False}
    assert ready[1]["presence"]["room:2"]["error"]["code"] == "too_many_channels"


def test_users_of_a_stopped_node_leave_unless_connected_elsewhere(start: Start) -> None:
    first, other = start(), start()
    open_session(first, "ann", ROOM)
    open_session(first, "bob", ROOM)
    cleo = open_session(other, "cleo", ROOM, watch=(ROOM,))
    open_session(other, "bob", ROOM)
    for hub in (first, other):
        # Waits until this hub has written its own members.
        hub.presence.members(ROOM)
    assert (first.presence.members(ROOM).count, other.presence.members(ROOM).count) == (3, 3)
    first.presence.stop()
    wait_until(lambda: events(cleo, "leave"), why="Ann left")
    assert events(cleo, "leave")[0][1] == {"users": ["ann"], "count": 2}


def test_a_memory_publisher_of_the_same_store_returns_the_same_members(hub: Hub, store: MemoryStore) -> None:
    open_session(hub, "ann", ROOM, info={"name": "Ann"})
    hub.presence.members(ROOM)
    publisher = MemoryPublisher(store=store)
    assert publisher.presence(ROOM, limit=10, timeout_s=1).members == {"ann": {"name": "Ann"}}
    with pytest.raises(Forbidden):
        publisher.presence("orders:1", limit=10, timeout_s=1)
    publisher.close()
    with pytest.raises(Unavailable):
        publisher.presence(ROOM, limit=10, timeout_s=1)
    assert MemoryPublisher(store=MemoryStore()).presence(ROOM, limit=10, timeout_s=1).count == 0


def test_reloaded_rules_apply_to_open_sessions(start: Start) -> None:
    hub = start(presence_lease_s=0.4)
    ann = open_session(hub, "ann", ROOM, "orders:1")
    assert hub.presence.members(ROOM).count == 1
    hub.apply_settings(
        settings(namespaces={"orders": {"subscribe": "public", "presence": True}}, presence_lease_s=0.4), None
    )
    assert hub.presence.members("orders:1").members == {"ann": None}
    with pytest.raises(UnknownNamespace):
        hub.presence.members(ROOM)
    hub.close(ann)
    wait_until(lambda: hub.metrics.presence_users == 0, why="Ann left all channels")
    wait_until(lambda: hub.presence.members("orders:1").count == 0, why="the lease of the old incarnation ends")


def test_presence_can_start_with_a_reload(start: Start) -> None:
    hub = start(namespaces={"room": {"subscribe": "public"}})
    open_session(hub, "ann", ROOM)
    hub.apply_settings(settings(), None)
    assert hub.presence.members(ROOM).members == {"ann": None}
