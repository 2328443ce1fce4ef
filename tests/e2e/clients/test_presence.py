"""Presence on real nodes and one Redis: page changes, tabs, killed nodes, an emptied Redis, rules and limits."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from support.network.raw_client import RawWebSocket
from support.processes.hub import API_KEY, CONFIG, HubProcess, environment, token
from support.processes.redis import RedisProcess
from support.waiting import wait_until
from tidings import AsyncEmitter, Emitter
from tidings.errors import Forbidden
from tidings.wire.presence import LIST_MAX

GRACE_S = 3.0
EXTRA = f"""
presence_grace_s = {GRACE_S}
presence_lease_s = 2.0
presence_list_max = 8
presence_info_max_bytes = 100
"""
NAMESPACES = """
[namespaces.room]
subscribe = "public"
presence = true
[namespaces.staff]
subscribe = "token"
presence = true
presence_to = "backend"
"""


class Page:
    """A browser's page: a raw WebSocket client that records the events."""

    def __init__(
        self,
        node: HubProcess,
        user: str,
        *channels: str,
        presence: tuple[str, ...] = (),
        since: str = "",
        **claims: Any,
    ) -> None:
        self.received: list[list[Any]] = []
        self._responses: list[Any] = []
        self._socket = RawWebSocket(node.port, "/socket.io/?EIO=4&transport=websocket")
        assert self._socket.receive_text().startswith("0{")
        auth: dict[str, Any] = {"token": token(user, "*", **claims), "channels": list(channels)}
        if presence:
            auth["presence"] = list(presence)
        if since:
            auth["since"] = since
        self._socket.send_text("40" + json.dumps(auth))
        threading.Thread(target=self._listen, daemon=True).start()
        wait_until(lambda: self.events("ready"), why="ready")

    def _listen(self) -> None:
        try:
            while True:
                message = self._socket.receive_text()
                if message.startswith("42"):
                    self.received.append(json.loads(message[2:]))
                elif message.startswith("43"):
                    self._responses.append(json.loads(message[message.index("[") :])[0])
        except (AssertionError, OSError):
            # The connection is closed; the test decides whether that is an error.
            self._responses.append(None)

    @property
    def ready(self) -> Any:
        return self.events("ready")[0]

    def events(self, name: str) -> list[Any]:
        return [event[1] for event in list(self.received) if event[0] == f"tidings:{name}"]

    def changes(self) -> list[tuple[str, str]]:
        """Return every join and leave so far, with one entry per user."""
        result = []
        for event, data, *_ in list(self.received):
            if event == "tidings:join":
                result += [("join", member["user"]) for member in data["members"]]
            elif event == "tidings:leave":
                result += [("leave", user) for user in data["users"]]
        return result

    def request(self, event: str, data: object) -> Any:
        before = len(self._responses)
        self._socket.send_text("427" + json.dumps([f"tidings:{event}", data]))
        wait_until(lambda: len(self._responses) > before, why=f"a response to {event}")
        return self._responses[before]

    def members(self, channel: str) -> set[str]:
        answer = self.request("presence", {"channel": channel})
        assert "members" in answer, answer
        assert answer["count"] == len(answer["members"])
        return {member["user"] for member in answer["members"]}

    def close(self) -> None:
        self._socket.socket.shutdown(2)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.close()
        except OSError:
            # The node has closed the connection already.
            return


Open = Callable[..., Page]


@pytest.fixture
def page() -> Iterator[Open]:
    """Open pages; they are closed at the end of the test."""
    pages: list[Page] = []

    def open_page(*arguments: Any, **options: Any) -> Page:
        pages.append(Page(*arguments, **options))
        return pages[-1]

    yield open_page
    for entry in pages:
        entry.__exit__()


@pytest.fixture(scope="module")
def start(
    shared_redis: RedisProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], HubProcess]]:
    """Start nodes on one Redis; they are stopped at the end of the module."""
    hubs: list[HubProcess] = []

    def start(name: str, broker: str = shared_redis.url, prefix: str = "presence-e2e:") -> HubProcess:
        folder = tmp_path_factory.mktemp(name)
        extra = f'{EXTRA}prefix = "{prefix}"\n'
        hubs.append(HubProcess(folder, "--broker", broker, "--node-id", name, extra=extra, config=CONFIG + NAMESPACES))
        return hubs[-1].start()

    yield start
    for hub in hubs:
        hub.stop()
        assert "Traceback" not in hub.log.read_text()


@pytest.fixture(scope="module")
def first(start: Callable[[str], HubProcess]) -> HubProcess:
    return start("n1")


@pytest.fixture(scope="module")
def second(start: Callable[[str], HubProcess]) -> HubProcess:
    return start("n2")


@pytest.fixture(scope="module")
def third(start: Callable[[str], HubProcess]) -> HubProcess:
    """A node that one test suspends and a later one kills."""
    return start("n3")


def users(node: HubProcess, channel: str) -> set[str]:
    status, answer, _ = node.get(f"/api/channels/{channel}/presence")
    return {member["user"] for member in answer["members"]} if status == 200 else {answer["error"]["code"]}


def wait_empty(node: HubProcess) -> None:
    """Wait until the users of earlier tests have left."""
    wait_until(lambda: node.metric("tidings_presence_users") == 0, why="the users of earlier tests have left")


def test_page_changes_and_tabs_produce_no_events(first: HubProcess, second: HubProcess, page: Open) -> None:
    wait_empty(first)
    wait_empty(second)
    room = "room:quiet"
    ann = page(first, "ann", room, presence=(room,))
    page(second, "cleo", room)
    first_tab, second_tab = page(first, "bob", room), page(second, "bob", room)
    wait_until(lambda: len(ann.changes()) == 3, why="all have joined")
    # Bob closes one of two tabs. Dora loads another page and reaches the second node.
    first_tab.close()
    first_page = page(second, "dora", room)
    first_page.close()
    page(first, "dora", room)
    wait_until(lambda: first.metric("tidings_presence_users") == 2, why="the grace period of the first tab ends")
    wait_until(lambda: second.metric("tidings_presence_users") == 2, why="the grace period of the first page ends")
    assert ann.members(room) == {"ann", "bob", "cleo", "dora"}
    assert sorted(ann.changes()) == [("join", "ann"), ("join", "bob"), ("join", "cleo"), ("join", "dora")]
    second_tab.close()
    wait_until(lambda: ("leave", "bob") in ann.changes(), why="the last tab is closed")
    assert [change for change in ann.changes() if change[0] == "leave"] == [("leave", "bob")]


def test_two_nodes_return_the_same_members(
    first: HubProcess, second: HubProcess, page: Open, shared_redis: RedisProcess
) -> None:
    room = "room:same"
    ann = page(first, "ann", room, presence=(room,), info={"name": "Ann é", "n": [1.5, None, {}]})
    assert ann.ready["presence"] == {room: {"recovered": False}}
    # Each node updates the broker at its own pace. Wait for the first join, so that the order is certain.
    wait_until(lambda: ann.changes() == [("join", "ann")], why="Ann's own join")
    bob = page(second, "bob", room, info={"name": "Bob"})
    wait_until(lambda: ("join", "bob") in ann.changes(), why="Ann receives Bob's join")
    assert ann.changes() == [("join", "ann"), ("join", "bob")]
    join = [event for event in ann.received if event[0] == "tidings:join"][-1]
    assert join[1] == {"members": [{"user": "bob", "info": {"name": "Bob"}}], "count": 2}
    assert join[2] == room
    epoch, seq = join[3].split(".")
    assert ann.ready["cursor"].startswith(f"{epoch}.")
    assert int(seq) > 0
    # Bob did not subscribe to presence and receives no events. A presence request still works.
    assert "presence" not in bob.ready
    assert bob.changes() == []
    assert ann.members(room) == bob.members(room) == {"ann", "bob"}
    expected = {"ann": {"name": "Ann é", "n": [1.5, None, {}]}, "bob": {"name": "Bob"}}
    for node in (first, second):
        status, answer, _ = node.get(f"/api/channels/{room}/presence")
        assert status == 200
        assert {entry["user"]: entry["info"] for entry in answer["members"]} == expected
        assert (answer["count"], answer["cursor"].partition(".")[0]) == (2, epoch)
        with Emitter(node.url, api_key=API_KEY) as emitter:
            assert emitter.presence(room).members == expected
    with Emitter(shared_redis.url, prefix="presence-e2e:") as emitter:
        assert emitter.presence(room).members == expected
        assert (emitter.presence(room, limit=1).count, emitter.presence(room, limit=1).members) == (2, None)
        assert emitter.presence("room:empty").members == {}
        with pytest.raises(Forbidden):
            emitter.presence("orders:1")
    assert (
        asyncio.run(_members_async(shared_redis.url, room))
        == asyncio.run(_members_async(first.url, room, API_KEY))
        == expected
    )
    command = [sys.executable, "-m", "tidings_hub", "presence", room, "--url", first.url]
    api_key = {"TIDINGS_API_KEY": API_KEY}
    completed = subprocess.run(command, env=environment() | api_key, capture_output=True, check=True)
    assert {entry["user"] for entry in json.loads(completed.stdout)["members"]} == {"ann", "bob"}
    bob.close()
    wait_until(lambda: ("leave", "bob") in ann.changes(), why="Ann receives Bob's leave")
    assert ann.members(room) == {"ann"}


async def _members_async(url: str, channel: str, api_key: str | None = None) -> object:
    async with AsyncEmitter(url, prefix="presence-e2e:", api_key=api_key) as emitter:
        return (await emitter.presence(channel)).members


def test_unsubscribing_produces_a_leave(first: HubProcess, page: Open) -> None:
    room = "room:left"
    ann, bob = page(first, "ann", room, presence=(room,)), page(first, "bob", room)
    assert ann.members(room) == {"ann", "bob"}
    assert bob.request("unsubscribe", {"channels": [room]}) == {}
    wait_until(lambda: ("leave", "bob") in ann.changes(), why="Bob has left")
    assert bob.request("presence", {"channel": room})["error"]["code"] == "forbidden"
    # Presence can be subscribed to later, and unsubscribed.
    assert bob.request("subscribe", {"presence": [room]})["presence"][room]["error"]["code"] == "forbidden"
    answer = bob.request("subscribe", {"channels": [room], "presence": [room]})
    assert (answer["channels"], answer["presence"]) == ({room: {"recovered": False}}, {room: {"recovered": False}})
    wait_until(lambda: ("join", "bob") in bob.changes(), why="Bob receives his own join")
    assert "presence" not in bob.request("subscribe", {"channels": [room]})
    page(first, "eve", room)
    wait_until(lambda: ("join", "eve") in ann.changes(), why="Ann receives Eve's join")
    assert ("join", "eve") not in bob.changes()


def test_presence_can_be_unsubscribed_alone(first: HubProcess, page: Open) -> None:
    room = "room:alone"
    ann, bob = page(first, "ann", room, presence=(room,)), page(first, "bob", room, presence=(room,))
    wait_until(lambda: len(ann.changes()) == len(bob.changes()) == 2, why="both receive both joins")
    assert bob.request("unsubscribe", {"presence": [room]}) == {}
    page(first, "eve", room)
    wait_until(lambda: ("join", "eve") in ann.changes(), why="Ann receives Eve's join")
    # Bob is still subscribed to the channel: he may request its members and receives its publications.
    first.publish(room, "said", 1)
    wait_until(lambda: any(event[0] == "said" for event in bob.received), why="Bob is still subscribed")
    assert ("join", "eve") not in bob.changes()
    assert bob.members(room) == {"ann", "bob", "eve"}
    assert bob.request("unsubscribe", {"presence": ["nonsense"]})["error"]["code"] == "bad_channel"
    assert bob.request("unsubscribe", {})["error"]["code"] == "bad_channel"


def test_a_resume_reports_missed_joins_and_leaves(first: HubProcess, second: HubProcess, page: Open) -> None:
    room = "room:return"
    ann, _ = page(first, "ann", room, presence=(room,)), page(second, "bob", room)
    wait_until(lambda: len(ann.changes()) == 2, why="both have joined")
    cursor = ann.received[-1][3]
    resumed = page(second, "ann", room, presence=(room,), since=cursor)
    assert resumed.ready["presence"] == {room: {"recovered": True}}
    page(first, "cleo", room)
    wait_until(lambda: ("join", "cleo") in resumed.changes(), why="Cleo's join")
    late = page(second, "ann", room, presence=(room,), since=cursor)
    assert late.ready["presence"] == {room: {"recovered": False}}


def test_an_event_stream_receives_joins_and_leaves(first: HubProcess, page: Open) -> None:
    room = "room:stream"
    connection = http.client.HTTPConnection("127.0.0.1", first.port, timeout=20)
    headers = {"Authorization": f"Bearer {token('ann', '*')}"}
    connection.request("GET", f"/sse?channels={room}&presence={room}", headers=headers)
    answer = connection.getresponse()
    assert answer.status == 200
    page(first, "bob", room)
    lines: list[str] = []
    while not any('"bob"' in line for line in lines):
        lines.append(answer.readline().decode().rstrip())
    at = next(index for index, line in enumerate(lines) if '"bob"' in line)
    assert lines[at - 1] == "event: tidings:join"
    data = json.loads(lines[at].removeprefix("data: "))
    assert data["channel"] == room
    assert {"user": "bob", "info": None} in data["data"]["members"]
    connection.close()


class TestRules:
    def test_only_allowed_clients_see_members(self, first: HubProcess, page: Open) -> None:
        staff, plain = "staff:1", "orders:1"
        ann = page(first, "ann", staff, plain, presence=(staff, plain, "room:not-subscribed", "nonsense", "tidings:x"))
        codes = {name: answer["error"]["code"] for name, answer in ann.ready["presence"].items()}
        assert codes == {
            staff: "forbidden",
            plain: "forbidden",
            "room:not-subscribed": "forbidden",
            "nonsense": "bad_channel",
            "tidings:x": "unknown_namespace",
        }
        for name, code in [*codes.items(), (7, "bad_channel"), ("user:ann", "forbidden"), ("", "bad_channel")]:
            assert ann.request("presence", {"channel": name})["error"]["code"] == code
        assert ann.request("subscribe", {"channels": [], "presence": []})["error"]["code"] == "bad_channel"
        assert ann.request("subscribe", {"presence": 7})["error"]["code"] == "bad_channel"
        # The channel that carries joins and leaves cannot be subscribed to either.
        hidden = "tidings:presence:staff:1"
        assert (
            ann.request("subscribe", {"channels": [hidden]})["presence"][staff]["error"]["code"] == "unknown_namespace"
        )
        assert users(first, staff) == {"ann"}
        assert first.get(f"/api/channels/{plain}/presence")[0] == 403
        assert first.get("/api/channels/nowhere:1/presence")[0] == 404
        assert first.get("/api/channels/nonsense/presence")[0] == 400

    def test_a_backend_cannot_publish_joins(self, first: HubProcess) -> None:
        body = {"channel": "tidings:presence:room:1", "event": "join", "data": {"members": []}}
        assert first.request("POST", "/api/publish", body)[0] == 404

    def test_special_characters_in_names(self, first: HubProcess, page: Open) -> None:
        room, names = "room:$~|@=+!.:-", ["a.b:c", "$1", "a@b|c=d+e~f!g-h", "null"]
        pages = [page(first, name, room, presence=(room,)) for name in names]
        assert pages[0].members(room) == users(first, room.replace("|", "%7C")) == set(names)
        wait_until(lambda: len(pages[0].changes()) >= 4, why="all joined")

    def test_invalid_info_is_not_shown(self, first: HubProcess, page: Open) -> None:
        room, before = "room:infos", first.metric("tidings_presence_infos_refused_total")
        page(first, "ann", room, info={"text": "x" * 100})
        page(first, "bob", room, info=["a", "list"])
        page(first, "cleo", room, info={"ok": "</script>\u2028"})
        status, answer, _ = first.get(f"/api/channels/{room}/presence")
        assert status == 200
        result = {entry["user"]: entry["info"] for entry in answer["members"]}
        assert result == {"ann": None, "bob": None, "cleo": {"ok": "</script>\u2028"}}
        assert first.metric("tidings_presence_infos_refused_total") == before + 2

    def test_a_new_token_changes_the_info(self, first: HubProcess, page: Open) -> None:
        room = "room:refresh"
        ann = page(first, "ann", room, info={"v": 1})
        ann.request("refresh", {"token": token("ann", "*", info={"v": 2})})
        assert ann.request("presence", {"channel": room})["members"] == [{"user": "ann", "info": {"v": 2}}]

    def test_a_large_channel_returns_only_a_count(self, first: HubProcess, second: HubProcess, page: Open) -> None:
        room = "room:large"
        ann = page(first, "ann", room, presence=(room,))
        pages = [
            page(node, f"user-{number}", room) for number in range(6) for node in (first, second)[number % 2 :][:1]
        ]
        wait_until(lambda: len(ann.changes()) == 7, why="seven joined")
        pages += [page(second, f"user-{number}", room) for number in range(6, 12)]
        wait_until(lambda: ann.events("stats") and ann.events("stats")[-1]["count"] == 13, why="the count event")
        assert {event["listed"] for event in ann.events("stats")} == {False}
        assert ann.request("presence", {"channel": room})["members"] is None
        answer = second.get(f"/api/channels/{room}/presence")[1]
        assert (answer["count"], answer["members"]) == (13, None)
        assert LIST_MAX > 8
        for entry in pages:
            entry.close()
        wait_until(lambda: any(event["listed"] for event in ann.events("stats")), why="members are listed again")
        wait_until(lambda: ann.members(room) == {"ann"}, why="all others have left")


def test_members_of_a_paused_node_leave_and_rejoin(first: HubProcess, third: HubProcess, page: Open) -> None:
    room = "room:paused"
    ann, _ = page(first, "ann", room, presence=(room,)), page(third, "bob", room)
    wait_until(lambda: len(ann.changes()) == 2, why="both have joined")
    os.kill(third.pid, signal.SIGSTOP)
    wait_until(lambda: ("leave", "bob") in ann.changes(), why="the lease of the paused node expires")
    os.kill(third.pid, signal.SIGCONT)
    wait_until(lambda: ann.changes()[-1] == ("join", "bob"), why="the resumed node announces its members again")
    assert ann.members(room) == {"ann", "bob"}


def test_members_of_a_killed_node_leave_when_its_lease_expires(
    first: HubProcess, third: HubProcess, page: Open
) -> None:
    room = "room:killed"
    ann = page(first, "ann", room, presence=(room,))
    page(third, "bob", room), page(third, "cleo", room), page(third, "dora", room)
    wait_until(lambda: len(ann.changes()) == 4, why="all have joined")
    page(first, "cleo", room)
    os.kill(third.pid, signal.SIGKILL)
    wait_until(lambda: {("leave", "bob"), ("leave", "dora")} <= set(ann.changes()), why="the lease expires")
    assert ann.members(room) == {"ann", "cleo"}
    assert ("leave", "cleo") not in ann.changes()
    assert len(ann.changes()) == 6


def test_members_of_a_stopping_node_leave_after_the_grace_period(
    first: HubProcess, start: Callable[[str], HubProcess], page: Open
) -> None:
    room, stopping = "room:drained", start("n5")
    ann, _ = page(first, "ann", room, presence=(room,)), page(stopping, "bob", room)
    page(stopping, "cleo", room)
    wait_until(lambda: len(ann.changes()) == 3, why="all have joined")
    stop = threading.Thread(target=stopping.terminate)
    stop.start()
    page(first, "cleo", room)
    stop.join()
    wait_until(lambda: ("leave", "bob") in ann.changes(), why="the grace period ends")
    assert ann.members(room) == {"ann", "cleo"}
    assert [change for change in ann.changes() if change[0] == "leave"] == [("leave", "bob")]


def test_presence_is_restored_after_redis_is_emptied(
    tmp_path: Path, start: Callable[..., HubProcess], page: Open
) -> None:
    redis = RedisProcess(tmp_path).start()
    try:
        nodes = [start(name, redis.url) for name in ("e1", "e2")]
        room = "room:emptied"
        ann, _ = page(nodes[0], "ann", room, presence=(room,)), page(nodes[1], "bob", room)
        wait_until(lambda: len(ann.changes()) == 2, why="both have joined")
        redis.restart(None)
        gap = {"recovered": False}
        wait_until(
            lambda: gap in [entry.get("presence", {}).get(room) for entry in ann.events("gap")],
            why="Ann receives a gap",
        )
        for node in nodes:
            wait_until(lambda node=node: node.get("/readyz")[0] == 200, why="the node is ready")
            wait_until(lambda node=node: users(node, room) == {"ann", "bob"}, why="all members are restored")
        assert ann.members(room) == {"ann", "bob"}
    finally:
        redis.stop()
