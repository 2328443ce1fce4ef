"""The presence contract of every broker, as tests. Subclass it and provide the fixture `make`."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support.limits import broker_limits
from support.waiting import wait_until
from tidings.errors import Forbidden
from tidings.wire.cursor import Cursor
from tidings.wire.presence import PresenceChange, PresenceUpdate, PresenceUpdateResult, presence_channel
from tidings.wire.publication import Publication
from tidings_hub.brokers.base import Broker

LIMITS = broker_limits(message_max_bytes=131_072, linger_s=0.2, position_check_s=0.3, timeout_s=10.0)
Make = Callable[[], Broker]
ROOM = "room:1"
LONG_S = 600.0
SHORT_S = 0.4


class EventRecorder:
    """A sink that records the events of presence channels."""

    def __init__(self) -> None:
        self.received: list[tuple[str, str, Any]] = []
        self.seqs: list[int] = []
        self.lost_channels: list[str] = []

    def deliver(self, publications: list[Publication]) -> None:
        for publication in publications:
            self.received.append((publication.channel, publication.event, json.loads(publication.data_json)))
            self.seqs.append(publication.seq)

    def on_loss(self, channels: list[str], position: Cursor) -> None:
        self.lost_channels += channels

    def on_control(self, message: dict[str, object]) -> None:
        raise AssertionError(message)

    def events(self, channel: str = ROOM) -> list[tuple[str, Any]]:
        return [(event, data) for name, event, data in self.received if name == presence_channel(channel)]


class Node:
    """One incarnation of a node in each part of the broker: sends updates and keeps the epochs."""

    def __init__(self, broker: Broker, name: str, **settings: Any) -> None:
        self.broker, self.name = broker, name
        self.epochs = [""] * broker.presence_parts
        self.settings = {"lease_s": LONG_S, "namespaces": ("room", "hall"), **settings}

    def update(self, *changes: PresenceChange, **settings: Any) -> PresenceUpdateResult:
        """Update every part; return the sum of the results."""
        results = []
        for part, epoch in enumerate(self.epochs):
            share = [change for change in changes if self.broker.presence_part_of(change.channel) == part]
            update = PresenceUpdate(self.name, epoch, changes=share, **{**self.settings, **settings})
            results.append(self.broker.update_presence(update, part=part))
            if results[-1].known:
                self.epochs[part] = results[-1].epoch
        return PresenceUpdateResult(
            "",
            known=all(result.known for result in results),
            more=any(result.more for result in results),
            joined=sum(result.joined for result in results),
            left=sum(result.left for result in results),
            ended=max(result.ended for result in results),
        )

    def enter(self, *users: str, channel: str = ROOM, info: bytes = b"null") -> PresenceUpdateResult:
        return self.update(*(PresenceChange(channel, user, info) for user in users))

    def leave(self, *users: str, channel: str = ROOM) -> PresenceUpdateResult:
        return self.update(*(PresenceChange(channel, user, None) for user in users))


def users(broker: Broker, channel: str = ROOM) -> set[str]:
    infos = broker.members(channel, limit=1_000).infos
    assert infos is not None
    return set(infos)


class PresenceContract:
    # With several buckets, a lease ends in each bucket at its own time.
    one_bucket = True

    @pytest.fixture
    def make(self) -> Make:
        """Creates brokers that share their data."""
        raise NotImplementedError

    @pytest.fixture
    def broker(self, make: Make) -> Broker:
        return make()

    @pytest.fixture
    def recorder(self, broker: Broker) -> Iterator[EventRecorder]:
        """Records the events of `ROOM`; the broker is started."""
        recorder = EventRecorder()
        broker.start(recorder)
        try:
            wait_until(lambda: broker.state().connected, why="the broker connects")
            broker.subscribe([presence_channel(ROOM)])
            yield recorder
            assert recorder.seqs == sorted(set(recorder.seqs))
            assert recorder.lost_channels == []
        finally:
            broker.stop()

    def wait_for_events(self, recorder: EventRecorder, count: int) -> list[tuple[str, Any]]:
        wait_until(lambda: len(recorder.events()) >= count, why=lambda: f"{count} events, not {recorder.events()}")
        return recorder.events()

    def test_user_joins_once_and_leaves_once_over_all_nodes(
        self, make: Make, broker: Broker, recorder: EventRecorder
    ) -> None:
        first, other = Node(broker, "a"), Node(make(), "b")
        assert first.enter("7", info=b'{"name":"Ann \\u00e9"}').joined == 1
        assert other.enter("7", info=b'{"name":"Ann"}').joined == 0
        assert first.enter("7").joined == 0
        assert first.leave("7").left == 0
        assert first.leave("7").left == 0
        assert users(broker) == {"7"}
        assert other.leave("7").left == 1
        assert users(broker) == set()
        assert self.wait_for_events(recorder, 2) == [
            ("join", {"members": [{"user": "7", "info": {"name": "Ann é"}}], "count": 1}),
            ("leave", {"users": ["7"], "count": 0}),
        ]

    def test_concurrent_nodes_produce_each_join_and_leave_once(
        self, make: Make, broker: Broker, recorder: EventRecorder
    ) -> None:
        nodes = [Node(make(), f"n{number}") for number in range(4)]
        names = [str(number) for number in range(25)]
        totals: list[tuple[int, int]] = []

        def work(node: Node) -> None:
            joins = sum(node.enter(name).joined for name in names)
            leaves = 0 if node is nodes[0] else sum(node.leave(name).left for name in names)
            totals.append((joins, leaves))

        threads = [threading.Thread(target=work, args=(node,)) for node in nodes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert len(totals) == len(nodes)
        join_count, leave_count = (sum(column) for column in zip(*totals, strict=True))
        assert join_count - leave_count == len(names)
        assert users(broker) == set(names)
        events = self.wait_for_events(recorder, join_count + leave_count)
        members: set[str] = set()
        for event, data in events:
            if event == "join":
                (member,) = data["members"]
                assert member["user"] not in members
                members.add(member["user"])
            else:
                members.remove(data["users"][0])
            assert data["count"] == len(members)
        assert members == set(names)

    def test_the_latest_info_is_listed(self, broker: Broker) -> None:
        node = Node(broker, "a")
        node.enter("7", info=b'{"n":1}')
        node.enter("7", info=b'{"n":[1,{"x y":"\xc3\xa9 %s"}]}')
        presence = broker.members(ROOM, limit=10)
        assert presence.members == {"7": {"n": [1, {"x y": "é %s"}]}}
        assert presence.count == 1
        assert Cursor.parse(presence.cursor).epoch in node.epochs

    def test_names_with_special_characters_stay_separate(self, broker: Broker, recorder: EventRecorder) -> None:
        node = Node(broker, "a")
        names = ["a.b", "a:b", "$1", "a@b|c=d+e~f!g-h", "-", "null", "0", "x" * 135]
        odd = "room:1:$~|@=+!."
        node.enter(*names)
        node.enter(*names, channel=odd)
        node.leave("a.b")
        assert users(broker) == {*names} - {"a.b"}
        assert users(broker, odd) == {*names}
        assert {member["user"] for member in self.wait_for_events(recorder, 2)[0][1]["members"]} == {*names}

    def test_more_users_than_the_limit_return_only_the_count(self, broker: Broker) -> None:
        node = Node(broker, "a")
        node.enter(*map(str, range(20)))
        assert broker.members(ROOM, limit=20).count == len(broker.members(ROOM, limit=20).infos or ()) == 20
        over = broker.members(ROOM, limit=19)
        assert (over.count, over.infos, over.members) == (20, None, None)

    def test_a_large_channel_publishes_counts_until_it_is_small_again(
        self, broker: Broker, recorder: EventRecorder
    ) -> None:
        node = Node(broker, "a", list_max=10)
        node.enter(*map(str, range(10)))
        node.enter("10", "11")
        self.wait_for_events(recorder, 2)
        node.enter("12", "13")
        wait_until(lambda: node.update() and len(recorder.events()) == 3, why="the count was published")
        node.leave(*map(str, range(3)))
        wait_until(lambda: node.update() and len(recorder.events()) == 4, why="the count was published")
        node.leave("3", "4")
        node.leave("5")
        events = self.wait_for_events(recorder, 6)
        assert [event for event, _ in events] == ["join", "stats", "stats", "stats", "stats", "leave"]
        assert [data["count"] for _, data in events] == [10, 12, 14, 11, 9, 8]
        assert [data.get("listed") for _, data in events] == [None, False, False, False, True, None]

    def test_many_joins_are_published_in_parts_below_the_size_limit(
        self, broker: Broker, recorder: EventRecorder
    ) -> None:
        node = Node(broker, "a", event_max_bytes=2_000)
        names = [f"user-{number}" for number in range(100)]
        node.enter(*names, info=b'{"text":"%b"}' % (b"x" * 100))
        wait_until(lambda: sum(len(data["members"]) for _, data in recorder.events()) == 100, why="all joined")
        assert len(recorder.events()) > 5
        assert all(len(json.dumps(data)) < 2_600 for _, data in recorder.events())
        assert [member["user"] for _, data in recorder.events() for member in data["members"]] == names
        node.leave(*names)
        wait_until(lambda: sum(len(data.get("users", ())) for _, data in recorder.events()) == 100, why="all left")

    def test_users_of_a_dead_node_are_removed_once(self, make: Make, broker: Broker, recorder: EventRecorder) -> None:
        dead, observers = Node(make(), "dead"), [Node(make(), f"n{number}") for number in range(3)]
        dead.enter("7", "8")
        dead.enter("7", channel="hall:1")
        observers[0].enter("8")
        assert users(broker) == {"7", "8"}
        dead.update(lease_s=SHORT_S)
        leaves: list[int] = []

        def update_once(node: Node) -> None:
            leaves.append(node.update(sweep_max=1).left)

        def all_left() -> bool:
            for observer in observers:
                update_once(observer)
            return sum(leaves) >= 2

        wait_until(all_left, why="the dead node's users leave")
        assert [observer.update().left for observer in observers] == [0, 0, 0]
        assert users(broker) == {"8"}
        assert users(broker, "hall:1") == set()
        assert self.wait_for_events(recorder, 2)[1:] == [("leave", {"users": ["7"], "count": 1})]

    def test_users_of_a_dead_node_are_not_listed_before_they_are_removed(self, broker: Broker) -> None:
        Node(broker, "dead", lease_s=SHORT_S).enter("7")
        wait_until(lambda: users(broker) == set(), why="the lease ends")

    def test_an_update_renews_the_lease(self, broker: Broker) -> None:
        node, other, observer = Node(broker, "a"), Node(broker, "b", lease_s=SHORT_S), Node(broker, "c")
        node.enter("7")
        node.update(lease_s=SHORT_S)
        assert node.update().known
        other.enter("8")
        wait_until(lambda: observer.update().ended == 1, why="the lease of the other one ends")
        assert node.update().known
        assert users(broker) == {"7"}

    def test_a_suspended_node_must_start_a_new_incarnation(self, broker: Broker, recorder: EventRecorder) -> None:
        suspended, observer = Node(broker, "a", lease_s=SHORT_S), Node(broker, "b")
        suspended.enter("7", "8")
        wait_until(lambda: observer.update().ended == 1, why="its lease ends")
        assert not suspended.enter("9").known
        if self.one_bucket:
            assert "9" not in users(broker)
        restarted = Node(broker, "a2")
        assert restarted.enter("7", "8", "9").known
        observer.update()
        assert users(broker) == {"7", "8", "9"}
        self.wait_for_events(recorder, 2)

    def test_a_user_that_moved_from_a_dead_node_in_time_does_not_leave(
        self, broker: Broker, recorder: EventRecorder
    ) -> None:
        dead, other = Node(broker, "dead", lease_s=SHORT_S), Node(broker, "b")
        dead.enter("7")
        ended_counts = [other.enter("7").ended]
        wait_until(lambda: ended_counts.append(other.update().ended) or sum(ended_counts) == 1, why="its lease ends")
        other.update()
        other.enter("8")
        assert [event for event, _ in self.wait_for_events(recorder, 2)] == ["join", "join"]

    def test_no_node_is_dead_if_no_node_sent_heartbeats(self, broker: Broker) -> None:
        first, other = Node(broker, "a", lease_s=SHORT_S), Node(broker, "b", lease_s=SHORT_S)
        first.enter("7")
        other.enter("8")
        wait_until(lambda: users(broker) == set(), why="both leases end")
        assert (first.update().ended, other.update().ended) == (0, 0)
        assert users(broker) <= {"7", "8"}
        assert other.update(lease_s=LONG_S).known
        assert "8" in users(broker)

    def test_users_of_a_stopped_node_stay_for_the_grace_period(self, broker: Broker, recorder: EventRecorder) -> None:
        going, other = Node(broker, "a"), Node(broker, "b")
        going.enter("7", "8")
        other.enter("8")
        going.update(lease_s=SHORT_S)
        leave_counts: list[int] = []
        wait_until(lambda: leave_counts.append(other.update().left) or sum(leave_counts) == 1, why="the grace ends")
        assert self.wait_for_events(recorder, 2)[1] == ("leave", {"users": ["7"], "count": 1})

    def test_an_update_with_another_epoch_is_rejected(self, broker: Broker) -> None:
        node = Node(broker, "a")
        node.enter("7")
        node.epochs = ["another"] * len(node.epochs)
        assert not node.leave("7").known
        assert users(broker) == {"7"}

    def test_joins_and_leaves_since_a_cursor_are_detected_as_missed(
        self, broker: Broker, recorder: EventRecorder
    ) -> None:
        node = Node(broker, "a")
        node.enter("7")
        self.wait_for_events(recorder, 1)
        channel = presence_channel(ROOM)
        since = broker.read_since([channel], None, limit=1).position
        last = broker.read_since([channel], since, limit=10).channels[channel].last
        assert last is not None
        assert last <= since.seq
        node.leave("7")
        later = broker.read_since([channel], since, limit=10).channels[channel]
        assert later.last is not None
        assert later.last > since.seq
        assert later.publications == []

    def test_members_of_a_namespace_without_presence_are_forbidden(self, broker: Broker) -> None:
        Node(broker, "a").update()
        assert users(broker, "room:9") == set()
        with pytest.raises(Forbidden, match="no presence"):
            broker.members("orders:1", limit=1)
        Node(broker, "b", namespaces=("*",)).update()
        assert users(broker, "orders:1") == set()
