"""Presence over real nodes and one Redis: pages that change, tabs, dead nodes, an emptied Redis, rules, bounds."""

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
        self._answers: list[Any] = []
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
                    self._answers.append(json.loads(message[message.index("[") :])[0])
        except (AssertionError, OSError):
            # The end of the connection, which is up to the test.
            self._answers.append(None)

    @property
    def ready(self) -> Any:
        return self.events("ready")[0]

    def events(self, name: str) -> list[Any]:
        return [event[1] for event in list(self.received) if event[0] == f"tidings:{name}"]

    def moves(self) -> list[tuple[str, str]]:
        """Every join and leave so far, one user each."""
        result = []
        for event, data, *_ in list(self.received):
            if event == "tidings:join":
                result += [("join", member["user"]) for member in data["members"]]
            elif event == "tidings:leave":
                result += [("leave", user) for user in data["users"]]
        return result

    def ask(self, event: str, data: object) -> Any:
        before = len(self._answers)
        self._socket.send_text("427" + json.dumps([f"tidings:{event}", data]))
        wait_until(lambda: len(self._answers) > before, why=f"an answer to {event}")
        return self._answers[before]

    def members(self, channel: str) -> set[str]:
        answer = self.ask("presence", {"channel": channel})
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
            # The node has closed it before.
            return


Open = Callable[..., Page]


@pytest.fixture
def page() -> Iterator[Open]:
    """Opens pages that are closed with the test."""
    opened: list[Page] = []

    def open_page(*arguments: Any, **options: Any) -> Page:
        opened.append(Page(*arguments, **options))
        return opened[-1]

    yield open_page
    for entry in opened:
        entry.__exit__()


@pytest.fixture(scope="module")
def start(
    shared_redis: RedisProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], HubProcess]]:
    """Starts nodes on one Redis."""
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
def other(start: Callable[[str], HubProcess]) -> HubProcess:
    return start("n2")


@pytest.fixture(scope="module")
def mortal(start: Callable[[str], HubProcess]) -> HubProcess:
    """A node that is frozen, and then killed."""
    return start("n3")


def users(node: HubProcess, channel: str) -> set[str]:
    status, answer, _ = node.get(f"/api/channels/{channel}/presence")
    return {member["user"] for member in answer["members"]} if status == 200 else {answer["error"]["code"]}


def alone(node: HubProcess) -> None:
    """Wait until the users of earlier tests have left."""
    wait_until(lambda: node.metric("tidings_presence_users") == 0, why="the users of before have gone")


def test_page_changes_and_tabs_produce_no_events(first: HubProcess, other: HubProcess, page: Open) -> None:
    alone(first)
    alone(other)
    room = "room:quiet"
    ann = page(first, "ann", room, presence=(room,))
    page(other, "cleo", room)
    tab, second = page(first, "bob", room), page(other, "bob", room)
    wait_until(lambda: len(ann.moves()) == 3, why="all are there")
    # Bob closes a tab; Cleo goes to another page, and meets the other node there.
    tab.close()
    other_page = page(other, "dora", room)
    other_page.close()
    page(first, "dora", room)
    wait_until(lambda: first.metric("tidings_presence_users") == 2, why="the first tab's grace is over")
    wait_until(lambda: other.metric("tidings_presence_users") == 2, why="the first page's grace is over")
    assert ann.members(room) == {"ann", "bob", "cleo", "dora"}
    assert sorted(ann.moves()) == [("join", "ann"), ("join", "bob"), ("join", "cleo"), ("join", "dora")]
    second.close()
    wait_until(lambda: ("leave", "bob") in ann.moves(), why="the last tab is closed")
    assert [move for move in ann.moves() if move[0] == "leave"] == [("leave", "bob")]


def test_two_nodes_return_the_same_members(
    first: HubProcess, other: HubProcess, page: Open, shared_redis: RedisProcess
) -> None:
    room = "room:same"
    ann = page(first, "ann", room, presence=(room,), info={"name": "Ann é", "n": [1.5, None, {}]})
    assert ann.ready["presence"] == {room: {"recovered": False}}
    # Each node tells the broker in its own time: who came first is known once it was told.
    wait_until(lambda: ann.moves() == [("join", "ann")], why="Ann hears that she is there")
    bob = page(other, "bob", room, info={"name": "Bob"})
    wait_until(lambda: ("join", "bob") in ann.moves(), why="Ann hears that Bob came")
    assert ann.moves() == [("join", "ann"), ("join", "bob")]
    joined = [event for event in ann.received if event[0] == "tidings:join"][-1]
    assert joined[1] == {"members": [{"user": "bob", "info": {"name": "Bob"}}], "count": 2}
    assert joined[2] == room
    epoch, seq = joined[3].split(".")
    assert ann.ready["cursor"].startswith(f"{epoch}.")
    assert int(seq) > 0
    # Bob asked for nothing, and hears nothing; asking still answers.
    assert "presence" not in bob.ready
    assert bob.moves() == []
    assert ann.members(room) == bob.members(room) == {"ann", "bob"}
    expected = {"ann": {"name": "Ann é", "n": [1.5, None, {}]}, "bob": {"name": "Bob"}}
    for node in (first, other):
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
        asyncio.run(_ask_async(shared_redis.url, room)) == asyncio.run(_ask_async(first.url, room, API_KEY)) == expected
    )
    command = [sys.executable, "-m", "tidings_hub", "presence", room, "--url", first.url]
    api_key = {"TIDINGS_API_KEY": API_KEY}
    completed = subprocess.run(command, env=environment() | api_key, capture_output=True, check=True)
    assert {entry["user"] for entry in json.loads(completed.stdout)["members"]} == {"ann", "bob"}
    bob.close()
    wait_until(lambda: ("leave", "bob") in ann.moves(), why="Ann hears that Bob went")
    assert ann.members(room) == {"ann"}


async def _ask_async(url: str, channel: str, api_key: str | None = None) -> object:
    async with AsyncEmitter(url, prefix="presence-e2e:", api_key=api_key) as emitter:
        return (await emitter.presence(channel)).members


def test_unsubscribing_produces_a_leave(first: HubProcess, page: Open) -> None:
    room = "room:left"
    ann, bob = page(first, "ann", room, presence=(room,)), page(first, "bob", room)
    assert ann.members(room) == {"ann", "bob"}
    assert bob.ask("unsubscribe", {"channels": [room]}) == {}
    wait_until(lambda: ("leave", "bob") in ann.moves(), why="Bob has left")
    assert bob.ask("presence", {"channel": room})["error"]["code"] == "forbidden"
    # Asking for joins and leaves later, and no longer.
    assert bob.ask("subscribe", {"presence": [room]})["presence"][room]["error"]["code"] == "forbidden"
    answer = bob.ask("subscribe", {"channels": [room], "presence": [room]})
    assert (answer["channels"], answer["presence"]) == ({room: {"recovered": False}}, {room: {"recovered": False}})
    wait_until(lambda: ("join", "bob") in bob.moves(), why="Bob is back, and hears it")
    assert "presence" not in bob.ask("subscribe", {"channels": [room]})
    page(first, "eve", room)
    wait_until(lambda: ("join", "eve") in ann.moves(), why="Ann hears of Eve")
    assert ("join", "eve") not in bob.moves()


def test_presence_can_be_unsubscribed_alone(first: HubProcess, page: Open) -> None:
    room = "room:alone"
    ann, bob = page(first, "ann", room, presence=(room,)), page(first, "bob", room, presence=(room,))
    wait_until(lambda: len(ann.moves()) == len(bob.moves()) == 2, why="both hear of both")
    assert bob.ask("unsubscribe", {"presence": [room]}) == {}
    page(first, "eve", room)
    wait_until(lambda: ("join", "eve") in ann.moves(), why="Ann hears of Eve")
    # He is still in the channel, may ask, and gets what is published there.
    first.publish(room, "said", 1)
    wait_until(lambda: any(event[0] == "said" for event in bob.received), why="Bob is still subscribed")
    assert ("join", "eve") not in bob.moves()
    assert bob.members(room) == {"ann", "bob", "eve"}
    assert bob.ask("unsubscribe", {"presence": ["nonsense"]})["error"]["code"] == "bad_channel"
    assert bob.ask("unsubscribe", {})["error"]["code"] == "bad_channel"


def test_a_resume_reports_missed_joins_and_leaves(first: HubProcess, other: HubProcess, page: Open) -> None:
    room = "room:return"
    ann, _ = page(first, "ann", room, presence=(room,)), page(other, "bob", room)
    wait_until(lambda: len(ann.moves()) == 2, why="both are there")
    cursor = ann.received[-1][3]
    resumed = page(other, "ann", room, presence=(room,), since=cursor)
    assert resumed.ready["presence"] == {room: {"recovered": True}}
    page(first, "cleo", room)
    wait_until(lambda: ("join", "cleo") in resumed.moves(), why="Cleo came")
    late = page(other, "ann", room, presence=(room,), since=cursor)
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
            assert ann.ask("presence", {"channel": name})["error"]["code"] == code
        assert ann.ask("subscribe", {"channels": [], "presence": []})["error"]["code"] == "bad_channel"
        assert ann.ask("subscribe", {"presence": "room:1"})["error"]["code"] == "bad_channel"
        # Nor by subscribing to where joins and leaves are published.
        hidden = "tidings:presence:staff:1"
        assert ann.ask("subscribe", {"channels": [hidden]})["presence"][staff]["error"]["code"] == "unknown_namespace"
        assert users(first, staff) == {"ann"}
        assert first.get(f"/api/channels/{plain}/presence")[0] == 403
        assert first.get("/api/channels/nowhere:1/presence")[0] == 404
        assert first.get("/api/channels/nonsense/presence")[0] == 400

    def test_a_backend_cannot_publish_joins(self, first: HubProcess) -> None:
        body = {"channel": "tidings:presence:room:1", "event": "join", "data": {"members": []}}
        assert first.request("POST", "/api/publish", body)[0] == 404

    def test_hostile_names(self, first: HubProcess, page: Open) -> None:
        room, names = "room:$~|@=+!.:-", ["a.b:c", "$1", "a@b|c=d+e~f!g-h", "null"]
        pages = [page(first, name, room, presence=(room,)) for name in names]
        assert pages[0].members(room) == users(first, room.replace("|", "%7C")) == set(names)
        wait_until(lambda: len(pages[0].moves()) >= 4, why="all joined")

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
        ann.ask("refresh", {"token": token("ann", "*", info={"v": 2})})
        assert ann.ask("presence", {"channel": room})["members"] == [{"user": "ann", "info": {"v": 2}}]

    def test_a_large_channel_returns_only_a_count(self, first: HubProcess, other: HubProcess, page: Open) -> None:
        room = "room:large"
        ann = page(first, "ann", room, presence=(room,))
        pages = [page(node, f"user-{number}", room) for number in range(6) for node in (first, other)[number % 2 :][:1]]
        wait_until(lambda: len(ann.moves()) == 7, why="seven joined")
        pages += [page(other, f"user-{number}", room) for number in range(6, 12)]
        wait_until(lambda: ann.events("stats") and ann.events("stats")[-1]["count"] == 13, why="the count is told")
        assert {event["listed"] for event in ann.events("stats")} == {False}
        assert ann.ask("presence", {"channel": room})["members"] is None
        answer = other.get(f"/api/channels/{room}/presence")[1]
        assert (answer["count"], answer["members"]) == (13, None)
        assert LIST_MAX > 8
        for entry in pages:
            entry.close()
        wait_until(lambda: any(event["listed"] for event in ann.events("stats")), why="lists are back")
        wait_until(lambda: ann.members(room) == {"ann"}, why="all went")


def test_a_paused_node_resumes(first: HubProcess, mortal: HubProcess, page: Open) -> None:
    room = "room:paused"
    ann, _ = page(first, "ann", room, presence=(room,)), page(mortal, "bob", room)
    wait_until(lambda: len(ann.moves()) == 2, why="both are there")
    os.kill(mortal.pid, signal.SIGSTOP)
    wait_until(lambda: ("leave", "bob") in ann.moves(), why="its lease ends")
    os.kill(mortal.pid, signal.SIGCONT)
    wait_until(lambda: ann.moves()[-1] == ("join", "bob"), why="it says again who is there")
    assert ann.members(room) == {"ann", "bob"}


def test_a_killed_node(first: HubProcess, mortal: HubProcess, page: Open) -> None:
    room = "room:killed"
    ann = page(first, "ann", room, presence=(room,))
    page(mortal, "bob", room), page(mortal, "cleo", room), page(mortal, "dora", room)
    wait_until(lambda: len(ann.moves()) == 4, why="all are there")
    page(first, "cleo", room)
    os.kill(mortal.pid, signal.SIGKILL)
    wait_until(lambda: {("leave", "bob"), ("leave", "dora")} <= set(ann.moves()), why="the lease ends")
    assert ann.members(room) == {"ann", "cleo"}
    assert ("leave", "cleo") not in ann.moves()
    assert len(ann.moves()) == 6


def test_a_stopping_node(first: HubProcess, start: Callable[[str], HubProcess], page: Open) -> None:
    room, leaving = "room:drained", start("n5")
    ann, _ = page(first, "ann", room, presence=(room,)), page(leaving, "bob", room)
    page(leaving, "cleo", room)
    wait_until(lambda: len(ann.moves()) == 3, why="all are there")
    stopping = threading.Thread(target=leaving.terminate)
    stopping.start()
    page(first, "cleo", room)
    stopping.join()
    wait_until(lambda: ("leave", "bob") in ann.moves(), why="the grace ends")
    assert ann.members(room) == {"ann", "cleo"}
    assert [move for move in ann.moves() if move[0] == "leave"] == [("leave", "bob")]


def test_an_emptied_redis(tmp_path: Path, start: Callable[..., HubProcess], page: Open) -> None:
    redis = RedisProcess(tmp_path).start()
    try:
        nodes = [start(name, redis.url) for name in ("e1", "e2")]
        room = "room:emptied"
        ann, _ = page(nodes[0], "ann", room, presence=(room,)), page(nodes[1], "bob", room)
        wait_until(lambda: len(ann.moves()) == 2, why="both are there")
        redis.restart(None)
        gap = {"recovered": False}
        wait_until(
            lambda: gap in [entry.get("presence", {}).get(room) for entry in ann.events("gap")], why="Ann is told"
        )
        for node in nodes:
            wait_until(lambda node=node: node.get("/readyz")[0] == 200, why="the node is back")
            wait_until(lambda node=node: users(node, room) == {"ann", "bob"}, why="all came back by themselves")
        assert ann.members(room) == {"ann", "bob"}
    finally:
        redis.stop()
