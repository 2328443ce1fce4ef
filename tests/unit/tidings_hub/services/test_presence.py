"""Presence of one node on the memory broker: what is told, what is asked, and a broker that fails meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support.limits import broker_limits
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
from tidings_hub.services.connection import Connection
from tidings_hub.services.hub import Hub
from tidings_hub.services.hub_event import hub_event
from tidings_hub.services.subscribe import go_live, subscribe
from unit.tidings_hub.services.test_hub import Recorder, fan_out

ROOM = "room:1"


class Shaky(MemoryBroker):
    """A broker whose turns may be told to fail, or whose answers to be late."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(limits=broker_limits(), store=store)
        self.down = False
        self.meanwhile: list[Callable[[], object]] = []

    def update_presence(self, update: PresenceUpdate) -> PresenceUpdateResult:
        if self.down:
            raise Unavailable("no")
        return super().update_presence(update)

    def members(self, channel: str, *, limit: int) -> Presence:
        found = super().members(channel, limit=limit)
        if self.meanwhile:
            self.meanwhile.pop()()
        return found


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

    def start(**more: Any) -> Hub:
        made, broker = settings(**more), Shaky(store)
        hub = Hub(made, broker, made.access(), None, fan_out=fan_out, metrics=Metrics())
        hubs.append(hub)
        broker.write_rules(made.broker_rules())
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


def shaky(hub: Hub) -> Shaky:
    assert isinstance(hub.broker, Shaky)
    return hub.broker


def enter(
    hub: Hub, user: str, *channels: str, watch: tuple[str, ...] = (), info: object = None, since: str = ""
) -> Session[Connection]:
    session = hub.open(Recorder(), Claims(sub=user, info=info))
    made = subscribe(hub, session, channels, Cursor.parse(since) if since else None, watch)
    go_live(hub, session, made, hub_event("tidings:ready", made.reply()))
    return session


def said(session: Session[Connection], event: str) -> list[Any]:
    assert isinstance(session.connection, Recorder)
    return [each for each in session.connection.said if each[0] == f"tidings:{event}"]


def test_joins_and_leaves_go_to_those_who_asked(hub: Hub) -> None:
    ann, bob = enter(hub, "ann", ROOM, watch=(ROOM,)), enter(hub, "bob", ROOM, info={"n": 1})
    wait_until(lambda: said(ann, "join")[-1:] and said(ann, "join")[-1][1]["count"] == 2, why="both joined")
    assert hub.presence.members(ROOM).members == {"ann": None, "bob": {"n": 1}}
    hub.close(bob)
    wait_until(lambda: said(ann, "leave"), why="Bob left")
    assert said(ann, "leave")[0][1:3] == [{"users": ["bob"], "count": 1}, ROOM]
    assert [said(bob, "join"), said(bob, "leave")] == [[], []]
    assert set(ann.channels) == {ROOM, presence_channel(ROOM)}
    hub.unsubscribe(ann, [ROOM])
    assert set(ann.channels) == set()
    assert len(hub.subscriptions) == 0


def test_a_node_that_loses_joins_says_so(hub: Hub) -> None:
    ann = enter(hub, "ann", ROOM, watch=(ROOM,))
    hub.on_loss([presence_channel(ROOM), ROOM], Cursor("e", 7))
    gap = {"cursor": "e.7", "channels": {ROOM: {"recovered": False}}, "presence": {ROOM: {"recovered": False}}}
    assert said(ann, "gap") == [["tidings:gap", gap, "e.7"]]


def test_while_the_broker_is_down_nothing_is_forgotten(hub: Hub) -> None:
    shaky(hub).down = True
    enter(hub, "ann", ROOM)
    bob = enter(hub, "bob", ROOM)
    wait_until(lambda: hub.metrics.presence_errors > 0, why="a turn fails")
    hub.close(bob)
    shaky(hub).down = False
    wait_until(lambda: hub.metrics.presence_users == 1, why="Bob's grace ends")
    assert hub.presence.members(ROOM).members == {"ann": None}


def test_a_broker_that_forgot_the_node_is_told_everything_again(hub: Hub, store: MemoryStore) -> None:
    ann = enter(hub, "ann", ROOM, watch=(ROOM,))
    assert hub.presence.members(ROOM).count == 1
    store.epoch = "another"
    wait_until(lambda: hub.metrics.presence_begun_anew == 1, why="the node begins a new life")
    enter(hub, "bob", ROOM)
    assert hub.presence.members(ROOM).members == {"ann": None, "bob": None}
    wait_until(lambda: len(said(ann, "join")) == 2, why="Bob joined")
    store.epoch, store.seq = "yet-another", 0
    wait_until(lambda: hub.metrics.presence_begun_anew == 2, why="the node begins a new life")
    assert hub.presence.members_for(ann, ROOM).members == {"ann": None, "bob": None}


def test_a_client_never_gets_a_list_that_is_older_than_what_it_heard(hub: Hub) -> None:
    ann = enter(hub, "ann", ROOM, watch=(ROOM,))
    wait_until(lambda: said(ann, "join"), why="Ann joined")

    def someone_joins() -> None:
        enter(hub, "bob", ROOM)
        wait_until(lambda: len(said(ann, "join")) == 2, why="Bob joined while the list was on its way")

    shaky(hub).meanwhile = [someone_joins]
    assert hub.presence.members_for(ann, ROOM).members == {"ann": None, "bob": None}
    assert shaky(hub).meanwhile == []


def test_a_list_that_is_always_older_is_refused(hub: Hub) -> None:
    ann = enter(hub, "ann", ROOM, watch=(ROOM,))
    wait_until(lambda: said(ann, "join"), why="Ann joined")
    users = iter(range(100))

    def someone_joins() -> None:
        before = len(said(ann, "join"))
        enter(hub, str(next(users)), ROOM)
        wait_until(lambda: len(said(ann, "join")) > before, why="one more joined")

    shaky(hub).meanwhile = [someone_joins] * 100
    with pytest.raises(Unavailable, match="ask again"):
        hub.presence.members_for(ann, ROOM)
    shaky(hub).meanwhile = []
    assert hub.presence.members_for(ann, ROOM).count == next(users) + 1


def test_only_who_is_there_may_ask(hub: Hub) -> None:
    session = enter(hub, "ann", "orders:1")
    for channel, error in ((ROOM, Forbidden), ("orders:1", Forbidden), ("nowhere:1", UnknownNamespace)):
        with pytest.raises(error):
            hub.presence.members_for(session, channel)


def test_without_presence_nothing_runs(start: Start) -> None:
    hub = start(namespaces={"orders": {"subscribe": "public"}})
    enter(hub, "ann", "orders:1")
    hub.presence.stop()
    assert hub.metrics.presence_turns == 0


def test_lists_are_bounded_in_users_and_in_bytes(start: Start) -> None:
    hub = start(presence_list_max=3, out_buffer_bytes=16_384)
    for number in range(3):
        enter(hub, f"u{number}", ROOM)
    assert len(hub.presence.members(ROOM).members or ()) == 3
    enter(hub, "u4", ROOM)
    assert (hub.presence.members(ROOM).count, hub.presence.members(ROOM).members) == (4, None)
    assert hub.metrics.presence_lists_refused == 2
    hub = start(presence_list_max=30, out_buffer_bytes=16_384)
    last = [enter(hub, f"u{number}", "room:fat", info={"text": "x" * 490}) for number in range(20)][-1]
    assert len(hub.presence.members("room:fat").members or ()) == 20
    assert (hub.presence.members_for(last, "room:fat").count, hub.metrics.presence_lists_refused) == (20, 1)
    assert hub.presence.members_for(last, "room:fat").members is None


def test_joins_and_leaves_count_as_a_channel(start: Start) -> None:
    hub = start(channels_per_connection=3)
    session = enter(hub, "ann", ROOM, "room:2", watch=(ROOM, "room:2"))
    (ready,) = said(session, "ready")
    assert ready[1]["presence"][ROOM] == {"recovered": False}
    assert ready[1]["presence"]["room:2"]["error"]["code"] == "too_many_channels"


def test_a_node_that_stops_leaves_its_users_to_the_others(start: Start) -> None:
    one, other = start(), start()
    enter(one, "ann", ROOM)
    enter(one, "bob", ROOM)
    cleo = enter(other, "cleo", ROOM, watch=(ROOM,))
    enter(other, "bob", ROOM)
    assert (other.presence.members(ROOM).count, one.presence.members(ROOM).count) == (3, 3)
    one.presence.stop()
    wait_until(lambda: said(cleo, "leave"), why="Ann left")
    assert said(cleo, "leave")[0][1] == {"users": ["ann"], "count": 2}


def test_an_emitter_of_the_same_process_sees_the_same(hub: Hub, store: MemoryStore) -> None:
    enter(hub, "ann", ROOM, info={"name": "Ann"})
    hub.presence.members(ROOM)
    publisher = MemoryPublisher(store=store)
    assert publisher.presence(ROOM, limit=10, timeout_s=1).members == {"ann": {"name": "Ann"}}
    with pytest.raises(Forbidden):
        publisher.presence("orders:1", limit=10, timeout_s=1)
    publisher.close()
    with pytest.raises(Unavailable):
        publisher.presence(ROOM, limit=10, timeout_s=1)
    assert MemoryPublisher(store=MemoryStore()).presence(ROOM, limit=10, timeout_s=1).count == 0


def test_new_rules_hold_for_who_is_there_already(start: Start) -> None:
    hub = start(presence_lease_s=0.4)
    ann = enter(hub, "ann", ROOM, "orders:1")
    assert hub.presence.members(ROOM).count == 1
    hub.apply_settings(
        settings(namespaces={"orders": {"subscribe": "public", "presence": True}}, presence_lease_s=0.4), None
    )
    assert hub.presence.members("orders:1").members == {"ann": None}
    with pytest.raises(UnknownNamespace):
        hub.presence.members(ROOM)
    hub.close(ann)
    wait_until(lambda: hub.metrics.presence_users == 0, why="Ann has gone, from everywhere")
    wait_until(lambda: hub.presence.members("orders:1").count == 0, why="the node's former life has ended")


def test_presence_begins_with_a_reload(start: Start) -> None:
    hub = start(namespaces={"room": {"subscribe": "public"}})
    enter(hub, "ann", ROOM)
    hub.apply_settings(settings(), None)
    assert hub.presence.members(ROOM).members == {"ann": None}
