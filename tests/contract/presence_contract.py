"""What every broker promises about presence, as tests. Subclass it and provide the fixture `make`."""

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


class Ear:
    """A sink that keeps what comes in presence channels."""

    def __init__(self) -> None:
        self.got: list[tuple[str, str, Any]] = []
        self.seqs: list[int] = []
        self.told: list[str] = []

    def deliver(self, publications: list[Publication]) -> None:
        for one in publications:
            self.got.append((one.channel, one.event, json.loads(one.data_json)))
            self.seqs.append(one.seq)

    def on_loss(self, channels: list[str], position: Cursor) -> None:
        self.told += channels

    def on_control(self, message: dict[str, object]) -> None:
        raise AssertionError(message)

    def events(self, channel: str = ROOM) -> list[tuple[str, Any]]:
        return [(event, data) for name, event, data in self.got if name == presence_channel(channel)]


class Node:
    """One life of a node, as its turns are."""

    def __init__(self, broker: Broker, name: str, **settings: Any) -> None:
        self.broker, self.name, self.epoch = broker, name, ""
        self.settings = {"lease_s": LONG_S, "namespaces": ("room", "hall"), **settings}

    def turn(self, *changes: PresenceChange, **settings: Any) -> PresenceUpdateResult:
        turned = self.broker.update_presence(
            PresenceUpdate(self.name, self.epoch, changes=changes, **{**self.settings, **settings})
        )
        if turned.known:
            self.epoch = turned.epoch
        return turned

    def enter(self, *users: str, channel: str = ROOM, info: bytes = b"null") -> PresenceUpdateResult:
        return self.turn(*(PresenceChange(channel, user, info) for user in users))

    def leave(self, *users: str, channel: str = ROOM) -> PresenceUpdateResult:
        return self.turn(*(PresenceChange(channel, user, None) for user in users))


def users(broker: Broker, channel: str = ROOM) -> set[str]:
    infos = broker.members(channel, limit=1_000).infos
    assert infos is not None
    return set(infos)


class PresenceContract:
    # In several buckets a lease ends in one after the other.
    one_bucket = True

    @pytest.fixture
    def make(self) -> Make:
        """Brokers that meet in one place."""
        raise NotImplementedError

    @pytest.fixture
    def broker(self, make: Make) -> Broker:
        return make()

    @pytest.fixture
    def ear(self, broker: Broker) -> Iterator[Ear]:
        """What the broker's node hears of the room; the broker is started."""
        ear = Ear()
        broker.start(ear)
        try:
            wait_until(lambda: broker.state().connected, why="the broker connects")
            broker.subscribe([presence_channel(ROOM)])
            yield ear
            assert ear.seqs == sorted(set(ear.seqs))
            assert ear.told == []
        finally:
            broker.stop()

    def hear(self, ear: Ear, count: int) -> list[tuple[str, Any]]:
        wait_until(lambda: len(ear.events()) >= count, why=f"{count} events, not {ear.events()}")
        return ear.events()

    def test_a_user_joins_once_and_leaves_once_over_all_nodes(self, make: Make, broker: Broker, ear: Ear) -> None:
        one, other = Node(broker, "a"), Node(make(), "b")
        assert one.enter("7", info=b'{"name":"Ann \\u00e9"}').joined == 1
        assert other.enter("7", info=b'{"name":"Ann"}').joined == 0
        assert one.enter("7").joined == 0
        assert one.leave("7").left == 0
        assert one.leave("7").left == 0
        assert users(broker) == {"7"}
        assert other.leave("7").left == 1
        assert users(broker) == set()
        assert self.hear(ear, 2) == [
            ("join", {"members": [{"user": "7", "info": {"name": "Ann é"}}], "count": 1}),
            ("leave", {"users": ["7"], "count": 0}),
        ]

    def test_many_nodes_at_once_decide_each_join_and_leave_once(self, make: Make, broker: Broker, ear: Ear) -> None:
        nodes = [Node(make(), f"n{number}") for number in range(4)]
        names = [str(number) for number in range(25)]
        totals: list[tuple[int, int]] = []

        def work(node: Node) -> None:
            came = sum(node.enter(name).joined for name in names)
            gone = 0 if node is nodes[0] else sum(node.leave(name).left for name in names)
            totals.append((came, gone))

        threads = [threading.Thread(target=work, args=(node,)) for node in nodes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert len(totals) == len(nodes)
        joined, left = (sum(column) for column in zip(*totals, strict=True))
        assert joined - left == len(names)
        assert users(broker) == set(names)
        events = self.hear(ear, joined + left)
        there: set[str] = set()
        for event, data in events:
            if event == "join":
                (member,) = data["members"]
                assert member["user"] not in there
                there.add(member["user"])
            else:
                there.remove(data["users"][0])
            assert data["count"] == len(there)
        assert there == set(names)

    def test_the_last_info_counts(self, broker: Broker) -> None:
        node = Node(broker, "a")
        node.enter("7", info=b'{"n":1}')
        node.enter("7", info=b'{"n":[1,{"x y":"\xc3\xa9 %s"}]}')
        found = broker.members(ROOM, limit=10)
        assert found.members == {"7": {"n": [1, {"x y": "é %s"}]}}
        assert found.count == 1
        assert Cursor.parse(found.cursor).epoch in node.epoch.split("~")

    def test_hostile_but_legal_names_stay_apart(self, broker: Broker, ear: Ear) -> None:
        node = Node(broker, "a")
        names = ["a.b", "a:b", "$1", "a@b|c=d+e~f!g-h", "-", "null", "0", "x" * 135]
        odd = "room:1:$~|@=+!."
        node.enter(*names)
        node.enter(*names, channel=odd)
        node.leave("a.b")
        assert users(broker) == {*names} - {"a.b"}
        assert users(broker, odd) == {*names}
        assert {each["user"] for each in self.hear(ear, 2)[0][1]["members"]} == {*names}

    def test_more_users_than_asked_for_are_a_number(self, broker: Broker) -> None:
        node = Node(broker, "a")
        node.enter(*map(str, range(20)))
        assert broker.members(ROOM, limit=20).count == len(broker.members(ROOM, limit=20).infos or ()) == 20
        over = broker.members(ROOM, limit=19)
        assert (over.count, over.infos, over.members) == (20, None, None)

    def test_a_large_channel_is_told_in_numbers_until_it_is_small_again(self, broker: Broker, ear: Ear) -> None:
        node = Node(broker, "a", list_max=10)
        node.enter(*map(str, range(10)))
        node.enter("10", "11")
        self.hear(ear, 2)
        node.enter("12", "13")
        wait_until(lambda: node.turn() and len(ear.events()) == 3, why="the count was published")
        node.leave(*map(str, range(3)))
        wait_until(lambda: node.turn() and len(ear.events()) == 4, why="the count was published")
        node.leave("3", "4")
        node.leave("5")
        events = self.hear(ear, 6)
        assert [event for event, _ in events] == ["join", "stats", "stats", "stats", "stats", "leave"]
        assert [data["count"] for _, data in events] == [10, 12, 14, 11, 9, 8]
        assert [data.get("listed") for _, data in events] == [None, False, False, False, True, None]

    def test_a_storm_is_told_in_parts_that_fit(self, broker: Broker, ear: Ear) -> None:
        node = Node(broker, "a", event_max_bytes=2_000)
        names = [f"user-{number}" for number in range(100)]
        node.enter(*names, info=b'{"text":"%b"}' % (b"x" * 100))
        wait_until(lambda: sum(len(data["members"]) for _, data in ear.events()) == 100, why="all joined")
        assert len(ear.events()) > 5
        assert all(len(json.dumps(data)) < 2_600 for _, data in ear.events())
        assert [each["user"] for _, data in ear.events() for each in data["members"]] == names
        node.leave(*names)
        wait_until(lambda: sum(len(data.get("users", ())) for _, data in ear.events()) == 100, why="all left")

    def test_a_dead_node_is_swept_by_whoever_sees_it_once(self, make: Make, broker: Broker, ear: Ear) -> None:
        dead, seers = Node(make(), "dead"), [Node(make(), f"n{number}") for number in range(3)]
        dead.enter("7", "8")
        dead.enter("7", channel="hall:1")
        seers[0].enter("8")
        assert users(broker) == {"7", "8"}
        dead.turn(lease_s=SHORT_S)
        gone: list[int] = []

        def look(node: Node) -> None:
            gone.append(node.turn(sweep_max=1).left)

        def swept() -> bool:
            for seer in seers:
                look(seer)
            return sum(gone) >= 2

        wait_until(swept, why="the dead node's users leave")
        assert [seer.turn().left for seer in seers] == [0, 0, 0]
        assert users(broker) == {"8"}
        assert users(broker, "hall:1") == set()
        assert self.hear(ear, 2)[1:] == [("leave", {"users": ["7"], "count": 1})]

    def test_users_of_a_dead_node_are_not_shown_even_if_nobody_sweeps(self, broker: Broker) -> None:
        Node(broker, "dead", lease_s=SHORT_S).enter("7")
        wait_until(lambda: users(broker) == set(), why="the lease ends")

    def test_a_turn_keeps_the_lease(self, broker: Broker) -> None:
        node, other, seer = Node(broker, "a"), Node(broker, "b", lease_s=SHORT_S), Node(broker, "c")
        node.enter("7")
        node.turn(lease_s=SHORT_S)
        assert node.turn().known
        other.enter("8")
        wait_until(lambda: seer.turn().ended == 1, why="the lease of the other one ends")
        assert node.turn().known
        assert users(broker) == {"7"}

    def test_a_node_that_slept_must_begin_a_new_life(self, broker: Broker, ear: Ear) -> None:
        sleeper, seer = Node(broker, "a", lease_s=SHORT_S), Node(broker, "b")
        sleeper.enter("7", "8")
        wait_until(lambda: seer.turn().ended == 1, why="its lease ends")
        assert not sleeper.enter("9").known
        if self.one_bucket:
            assert "9" not in users(broker)
        again = Node(broker, "a2")
        assert again.enter("7", "8", "9").known
        seer.turn()
        assert users(broker) == {"7", "8", "9"}
        self.hear(ear, 2)

    def test_whoever_moved_from_a_dead_node_in_time_has_never_left(self, broker: Broker, ear: Ear) -> None:
        dead, other = Node(broker, "dead", lease_s=SHORT_S), Node(broker, "b")
        dead.enter("7")
        ended = [other.enter("7").ended]
        wait_until(lambda: ended.append(other.turn().ended) or sum(ended) == 1, why="its lease ends")
        other.turn()
        other.enter("8")
        assert [event for event, _ in self.hear(ear, 2)] == ["join", "join"]

    def test_where_all_were_silent_nobody_is_dead(self, broker: Broker) -> None:
        one, other = Node(broker, "a", lease_s=SHORT_S), Node(broker, "b", lease_s=SHORT_S)
        one.enter("7")
        other.enter("8")
        wait_until(lambda: users(broker) == set(), why="both leases end")
        assert (one.turn().ended, other.turn().ended) == (0, 0)
        assert users(broker) <= {"7", "8"}
        assert other.turn(lease_s=LONG_S).known
        assert "8" in users(broker)

    def test_a_node_that_goes_leaves_its_users_a_grace(self, broker: Broker, ear: Ear) -> None:
        going, other = Node(broker, "a"), Node(broker, "b")
        going.enter("7", "8")
        other.enter("8")
        going.turn(lease_s=SHORT_S)
        left: list[int] = []
        wait_until(lambda: left.append(other.turn().left) or sum(left) == 1, why="the grace ends")
        assert self.hear(ear, 2)[1] == ("leave", {"users": ["7"], "count": 1})

    def test_another_epoch_is_another_broker(self, broker: Broker) -> None:
        node = Node(broker, "a")
        node.enter("7")
        node.epoch = "another"
        assert not node.leave("7").known
        assert users(broker) == {"7"}

    def test_what_came_and_went_since_a_cursor_is_known_to_have_been_missed(self, broker: Broker, ear: Ear) -> None:
        node = Node(broker, "a")
        node.enter("7")
        self.hear(ear, 1)
        place = presence_channel(ROOM)
        since = broker.read_since([place], None, limit=1).position
        last = broker.read_since([place], since, limit=10).channels[place].last
        assert last is not None
        assert last <= since.seq
        node.leave("7")
        later = broker.read_since([place], since, limit=10).channels[place]
        assert later.last is not None
        assert later.last > since.seq
        assert later.publications == []

    def test_only_namespaces_with_presence_are_answered(self, broker: Broker) -> None:
        Node(broker, "a").turn()
        assert users(broker, "room:9") == set()
        with pytest.raises(Forbidden, match="no presence"):
            broker.members("orders:1", limit=1)
        Node(broker, "b", namespaces=("*",)).turn()
        assert users(broker, "orders:1") == set()
