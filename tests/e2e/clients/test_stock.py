"""Stock clients come back by themselves: the same id, what they missed once and in order, without code of ours."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.network.proxy import Proxy
from support.network.raw_polling import connect_events, poll_packets
from support.processes.client import ClientProcess
from support.processes.hub import CONFIG, HubProcess, token
from support.processes.redis import RedisProcess
from support.waiting import wait_until

KINDS = ["stock-websocket", "stock-polling", "stock-upgrade", "stock4.6-websocket", "stock4.6-polling"]
MORE = """
[namespaces.brief]
subscribe = "token"
history = 5
[namespaces.room]
subscribe = "public"
presence = true
"""
Start = Callable[..., ClientProcess]


@dataclass
class Scene:
    """Two nodes on one Redis, and a door that leads to the first."""

    redis: RedisProcess
    one: HubProcess
    other: HubProcess
    door: Proxy

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.door.port}"

    @contextmanager
    def away(self, client: ClientProcess) -> Iterator[None]:
        """Nobody gets through the door meanwhile, and the client knows."""
        before = len(client.records_of("disconnect"))
        self.door.refuse()
        client.wait(lambda client: len(client.records_of("disconnect")) > before, why="it is cut off")
        try:
            yield
        finally:
            self.door.accept_again()

    def publish(self, channel: str, *numbers: int) -> None:
        for number in numbers:
            self.other.publish(channel, "updated", {"n": number})

    def known(self, sid: str) -> list[bytes]:
        """The key that a session is kept under; none if it is not."""
        with self.redis.client() as client:
            found: list[bytes] = client.keys(f"*:session:{sid}")
        return found

    def kept(self, sid: str) -> None:
        """Wait until a session is kept: it is written soon after it was opened."""
        wait_until(lambda: self.known(sid), why="it is kept")

    def refused(self, reason: str) -> float:
        """How many returns were refused for this reason, on both nodes."""
        return sum(
            float(line.split()[-1])
            for hub in (self.one, self.other)
            for line in hub.get("/metrics")[1].decode().splitlines()
            if line.startswith("tidings_returns_refused_total") and f'code="{reason}"' in line
        )


def hub_of(folder: Path, redis: RedisProcess, name: str, extra: str = "") -> HubProcess:
    flags = ("--broker", redis.url, "--node-id", name)
    return HubProcess(
        folder, *flags, extra=f"recovery_window_s = 20.0\ntoken_leeway_s = 0.0\n{extra}", config=CONFIG + MORE
    )


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    process = RedisProcess(tmp_path_factory.mktemp("redis")).start()
    yield process
    process.stop()


@pytest.fixture(scope="module")
def two(redis: RedisProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[HubProcess]]:
    hubs = [hub_of(tmp_path_factory.mktemp(name), redis, name) for name in ("one", "other")]
    try:
        for hub in hubs:
            hub.start()
        yield hubs
    finally:
        for hub in hubs:
            hub.stop()
    assert not [hub for hub in hubs if "Traceback" in hub.log.read_text()]


@pytest.fixture
def scene(redis: RedisProcess, two: list[HubProcess]) -> Iterator[Scene]:
    door = Proxy(two[0].port, plain=True)
    yield Scene(redis, *two, door)
    door.close()


@pytest.fixture
def start(scene: Scene, clients: list[ClientProcess]) -> Start:
    def started(kind: str, user: str, *channels: str, **more: Any) -> ClientProcess:
        given = more.pop("token", None) or token(user, "orders:*", "brief:*")
        client = ClientProcess(kind, more.pop("url", scene.url), token=given, channels=list(channels), **more)
        clients.append(client)
        return client.wait_ready()

    return started


def numbers(client: ClientProcess) -> list[int]:
    return [data["n"] for data in client.data()]


def got(client: ClientProcess, count: int) -> None:
    client.wait(lambda client: len(client.data()) >= count, why=f"{count} publications")


def back(client: ClientProcess, times: int = 2, *, recovered: bool = True) -> None:
    """It came back, and was told so by its own library, with the same id."""
    client.wait_ready(times)
    connects = client.records_of("connect")
    assert connects[times - 1]["recovered"] is recovered, client.records_of("ready")[-1]
    assert (connects[times - 1]["id"] == connects[times - 2]["id"]) is recovered


def refusal(client: ClientProcess) -> dict[str, Any]:
    """What its CONNECT was answered."""
    client.wait(lambda client: any("data" in each for each in client.records_of("connect_error")), why="it is refused")
    return next(each["data"] for each in client.records_of("connect_error") if "data" in each)


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_that_was_cut_off_is_the_same_and_has_everything(kind: str, scene: Scene, start: Start) -> None:
    channel = f"orders:cut-{kind}"
    client = start(kind, f"cut-{kind}", channel)
    scene.publish(channel, 0, 1, 2)
    got(client, 3)
    with scene.away(client):
        scene.publish(channel, 3, 4, 5)
    scene.publish(channel, 6)
    back(client)
    got(client, 7)
    assert client.records_of("ready")[1]["channels"][channel] == {"recovered": True}
    # And again, on the other node, which does not know it.
    with scene.away(client):
        scene.publish(channel, 7)
        scene.door.lead_to(scene.other.port)
    back(client, 3)
    scene.publish(channel, 8)
    got(client, 9)
    assert numbers(client) == list(range(9))


@pytest.mark.parametrize("kind", ["stock-websocket", "stock-polling", "stock4.6-websocket"])
def test_a_client_that_has_had_no_publication_yet(kind: str, scene: Scene, start: Start) -> None:
    channel = f"orders:none-{kind}"
    client = start(kind, f"none-{kind}", channel)
    with scene.away(client):
        scene.publish(channel, 0, 1)
    back(client)
    got(client, 2)
    with scene.away(client):
        pass
    back(client, 3)
    scene.publish(channel, 2)
    got(client, 3)
    assert numbers(client) == [0, 1, 2]


@pytest.mark.parametrize("kind", ["stock-websocket", "stock-polling", "stock4.6-polling"])
def test_channels_that_it_subscribed_to_later(kind: str, scene: Scene, start: Start) -> None:
    first, later, left = (f"orders:{name}-{kind}" for name in ("first", "later", "left"))
    client = start(kind, f"later-{kind}", first, left)
    scene.publish(first, 0)
    # Published before it subscribes: not its own.
    scene.publish(later, 100)
    assert client.request("tidings:subscribe", {"channels": [later]})["channels"] == {later: {"recovered": False}}
    assert client.request("tidings:unsubscribe", {"channels": [left]}) == {}
    got(client, 1)
    with scene.away(client):
        scene.publish(later, 1)
        scene.publish(left, 101)
        scene.publish(first, 2)
    back(client)
    scene.publish(later, 3)
    got(client, 4)
    assert numbers(client) == [0, 1, 2, 3]
    # What CONNECT names is subscribed to in any case, and says that its past is not whole.
    channels = client.records_of("ready")[1]["channels"]
    assert {name: channels[name]["recovered"] for name in (first, later, left)} == {
        first: True,
        later: True,
        left: False,
    }


def test_a_subscription_with_a_cursor_and_a_cut_before_anything_else(scene: Scene, start: Start) -> None:
    since = scene.other.publish("orders:early", "updated", {"n": 0})["cursor"]
    scene.publish("orders:early", 1, 2)
    client = start("stock-websocket", "early", "orders:calm")
    assert client.request("tidings:subscribe", {"channels": ["orders:early"], "since": since})["channels"] == {
        "orders:early": {"recovered": True}
    }
    got(client, 2)
    # Nobody can know that it got them: its offset may be from before.
    with scene.away(client):
        scene.publish("orders:early", 3)
    back(client, recovered=False)
    # Whoever got something afterwards has them.
    client.request("tidings:subscribe", {"channels": ["orders:early"]})
    scene.publish("orders:early", 4)
    got(client, 3)
    with scene.away(client):
        scene.publish("orders:early", 5)
    back(client, 3)
    got(client, 4)
    assert numbers(client) == [1, 2, 4, 5]
    assert scene.refused("unsettled") == 1


@pytest.mark.parametrize("kind", ["stock-websocket", "stock-polling"])
def test_a_history_that_is_too_short(kind: str, scene: Scene, start: Start) -> None:
    channel, whole = f"brief:{kind}", f"orders:whole-{kind}"
    client = start(kind, f"brief-{kind}", channel, whole)
    scene.publish(channel, 0)
    got(client, 1)
    with scene.away(client):
        scene.publish(whole, 1)
        # A stream is trimmed in blocks of a hundred.
        scene.publish(channel, *range(100, 350))
    back(client, recovered=False)
    assert client.records_of("ready")[1]["channels"][channel] == {"recovered": False}
    scene.publish(channel, 2)
    got(client, 2)
    # All or nothing: of the channel that could be recovered nothing came either.
    assert numbers(client) == [0, 2]
    with scene.away(client):
        scene.publish(channel, 3)
    back(client, 3)
    got(client, 3)
    assert numbers(client) == [0, 2, 3]


@pytest.mark.parametrize("moved", [False, True])
def test_joins_and_leaves_that_were_missed_make_it_new(moved: bool, scene: Scene, start: Start) -> None:
    room = f"room:{moved}"
    client = start("stock-websocket", "watches", room, presence=[room])
    client.wait(lambda client: client.records_of("join"), why="its own join")
    with scene.away(client):
        if moved:
            start("stock-websocket", "moves", room, url=scene.other.url)
            wait_until(lambda: members(scene, room) == ["moves", "watches"], why="the other one is there")
    back(client, recovered=not moved)
    assert client.records_of("ready")[1]["presence"] == {room: {"recovered": not moved}}
    # What CONNECT asked for is watched either way.
    late = start("stock-websocket", "late", room, url=scene.other.url)
    client.wait(
        lambda client: any(one["members"][0]["user"] == "late" for one in client.records_of("join")), why="a join"
    )
    late.stop()


@pytest.mark.parametrize("kind", ["stock-websocket", "stock4.6-websocket", "stock-polling"])
def test_a_node_that_was_killed(kind: str, redis: RedisProcess, scene: Scene, start: Start, tmp_path: Path) -> None:
    node = hub_of(tmp_path, redis, f"killed-{kind.replace('.', '')}").start()
    channel, later = f"orders:killed-{kind}", f"orders:killed-later-{kind}"
    try:
        scene.door.lead_to(node.port)
        client = start(kind, f"killed-{kind}", channel)
        client.request("tidings:subscribe", {"channels": [later]})
        scene.publish(channel, 0)
        got(client, 1)
        scene.door.refuse()
    finally:
        node.stop()
    scene.publish(channel, 1)
    scene.publish(later, 2)
    scene.door.lead_to(scene.one.port)
    scene.door.accept_again()
    back(client)
    scene.publish(channel, 3)
    got(client, 4)
    assert numbers(client) == [0, 1, 2, 3]


def test_a_node_that_drains(redis: RedisProcess, scene: Scene, start: Start, tmp_path: Path) -> None:
    node = hub_of(tmp_path, redis, "drains", "drain_notice_s = 0.0\ndrain_s = 0.2\n").start()
    scene.door.lead_to(node.port)
    client = start("stock-websocket", "drained", "orders:drained")
    scene.publish("orders:drained", 0)
    got(client, 1)
    scene.door.lead_to(scene.one.port) if node.terminate() == 0 else None
    back(client)
    scene.publish("orders:drained", 1)
    got(client, 2)
    assert numbers(client) == [0, 1]


class TestPid:
    """A pid is a secret of one user, good for one return at a time."""

    def test_of_two_that_return_with_it_one_is_recovered(self, scene: Scene) -> None:
        auth: dict[str, object] = {"token": token("twice", "orders:*"), "channels": ["orders:twice"]}
        _, answer, events = connect_events(scene.one.port, auth)
        scene.kept(answer["sid"])
        given = auth | {"pid": answer["pid"], "offset": events[0][-1]}
        with ThreadPoolExecutor(2) as pool:
            both = list(pool.map(lambda hub: connect_events(hub.port, given)[1], (scene.one, scene.other)))
        assert [each["pid"] for each in both].count(answer["pid"]) == 1
        assert [each["sid"] for each in both].count(answer["sid"]) == 1

    def test_who_returns_takes_over_and_the_old_connection_ends(self, scene: Scene) -> None:
        """Its node has not noticed that it is dead."""
        auth: dict[str, object] = {"token": token("taken", "orders:*"), "channels": ["orders:taken"]}
        old, answer, events = connect_events(scene.one.port, auth)
        for hub in (scene.other, scene.one, scene.one):
            scene.kept(answer["sid"])
            _, again, _ = connect_events(hub.port, auth | {"pid": answer["pid"], "offset": events[0][-1]})
            assert again == answer
        wait_until(lambda: len(sessions(scene, "taken")) == 1, why="the others have ended")
        said = "".join(poll_packets(scene.one.port, old))
        assert '"code":"replaced"' in said
        assert said.endswith("41") or "41" in poll_packets(scene.one.port, old)

    def test_another_users(self, scene: Scene) -> None:
        auth: dict[str, object] = {"token": token("mine", "orders:*"), "channels": ["orders:mine"]}
        _, answer, events = connect_events(scene.one.port, auth)
        scene.kept(answer["sid"])
        thief = {"token": token("thief", "orders:*"), "pid": answer["pid"], "offset": events[0][-1]}
        _, theirs, said = connect_events(scene.other.port, thief)
        assert theirs["sid"] != answer["sid"]
        assert theirs["pid"] != answer["pid"]
        assert said[0][1]["channels"].keys() == {"user:thief"}
        assert scene.refused("user") == 1
        # It is still good for its owner.
        assert connect_events(scene.other.port, auth | {"pid": answer["pid"], "offset": events[0][-1]})[1] == answer

    @pytest.mark.parametrize("pid", ["x", "x" * 24, 7, {"a": 1}, ["x"], "\u00e9" * 20, ""])
    def test_what_is_none(self, scene: Scene, pid: object) -> None:
        _, answer, _ = connect_events(scene.one.port, {"token": token("none"), "pid": pid, "offset": 5})
        assert answer.keys() == {"sid", "pid"}
        assert answer["pid"] != pid

    @pytest.mark.parametrize("offset", [None, 5, "garbage", "", "other.1"])
    def test_an_offset_that_is_none(self, scene: Scene, offset: object) -> None:
        auth: dict[str, object] = {"token": token("offset", "orders:*"), "channels": ["orders:offset"]}
        _, answer, _ = connect_events(scene.one.port, auth)
        scene.kept(answer["sid"])
        _, again, said = connect_events(scene.other.port, auth | {"pid": answer["pid"], "offset": offset})
        assert again["sid"] != answer["sid"]
        assert said[0][1]["channels"]["orders:offset"] == {"recovered": False}

    def test_who_never_heard_ready_is_not_taken_for_whole(self, scene: Scene) -> None:
        """It still has the offset of the session before: it was cut off right behind the answer to its CONNECT."""
        auth: dict[str, object] = {"token": token("unready", "orders:*"), "channels": ["orders:unready"]}
        offset = connect_events(scene.one.port, auth)[2][0][-1]
        brought = auth | {"pid": "of-a-session-that-is-gone", "offset": offset}
        _, answer, _ = connect_events(scene.one.port, brought)
        scene.kept(answer["sid"])
        _, again, _ = connect_events(scene.one.port, brought | {"pid": answer["pid"]})
        assert again["pid"] != answer["pid"]
        assert scene.refused("unready") == 1

    def test_none_is_given_to_who_wants_none(self, scene: Scene) -> None:
        _, answer, _ = connect_events(scene.one.port, {"token": token("own"), "pid": None})
        assert answer.keys() == {"sid"}

    def test_the_broker_does_not_know_it(self, scene: Scene) -> None:
        _, answer, _ = connect_events(scene.one.port, {"token": token("secret")})
        scene.kept(answer["sid"])
        (name,) = scene.known(answer["sid"])
        with scene.redis.client() as client:
            assert answer["pid"].encode() not in name + client.get(name)


class TestAuth:
    """The token is looked at again: a pid opens nothing by itself."""

    def test_a_token_that_has_ended(self, scene: Scene, start: Start) -> None:
        before = scene.one.metric("tidings_auth_failures_total")
        # Its `exp` is a whole second, up to one later than asked for.
        ended_s = time.time() + 3
        client = start("stock-websocket", "ended", "orders:ended", token=token("ended", "orders:*", expires_in_s=2))
        with scene.away(client):
            time.sleep(max(0.0, ended_s - time.time()) + 0.1)
        # Whoever could come back with another token is closed without an answer.
        wait_until(lambda: scene.one.metric("tidings_auth_failures_total") > before, why="it is refused")
        assert len(client.records_of("connect")) == 1

    def test_a_revoked_user(self, scene: Scene, start: Start) -> None:
        client = start("stock-websocket", "gone", "orders:gone")
        with scene.away(client):
            assert scene.other.request("POST", "/api/revocations", {"user": "gone", "for_s": 60})[0] == 201
        assert refusal(client)["code"] == "revoked"

    def test_a_revoked_token_takes_its_session_with_it(self, scene: Scene) -> None:
        auth: dict[str, object] = {"token": token("jti", "orders:*", jti="first"), "channels": ["orders:jti"]}
        _, answer, events = connect_events(scene.one.port, auth)
        scene.kept(answer["sid"])
        assert scene.other.request("POST", "/api/revocations", {"jti": "first", "for_s": 60})[0] == 201
        again = {"token": token("jti", "orders:*", jti="second"), "pid": answer["pid"], "offset": events[0][-1]}
        assert connect_events(scene.other.port, again)[1]["pid"] != answer["pid"]

    def test_a_token_that_covers_less(self, scene: Scene) -> None:
        auth: dict[str, object] = {"token": token("less", "orders:*"), "channels": ["orders:less", "orders:more"]}
        _, answer, events = connect_events(scene.one.port, auth)
        scene.kept(answer["sid"])
        less = auth | {"token": token("less", "orders:less"), "pid": answer["pid"], "offset": events[0][-1]}
        _, again, said = connect_events(scene.other.port, less)
        assert again["sid"] != answer["sid"]
        assert said[0][1]["channels"]["orders:more"]["error"]["code"] == "forbidden"


class TestForgotten:
    """Who left, or was sent away, does not come back as the same."""

    def test_a_client_that_disconnects(self, scene: Scene, start: Start) -> None:
        client = start("stock-websocket", "leaves", "orders:leaves")
        sid = client.records_of("connect")[0]["id"]
        scene.kept(sid)
        client.send_command({"call": "disconnect"})
        wait_until(lambda: not scene.known(sid), why="it is forgotten")
        client.send_command({"call": "connect"})
        back(client, recovered=False)

    def test_a_backend_that_disconnects(self, scene: Scene, start: Start) -> None:
        client = start("stock-websocket", "sent", "orders:sent")
        scene.kept(client.records_of("connect")[0]["id"])
        assert scene.other.request("POST", "/api/users/sent/disconnect", {})[1]["disconnected"] == 1
        back(client, recovered=False)

    def test_a_channel_that_a_backend_gave(self, scene: Scene, start: Start) -> None:
        """It may have been taken back meanwhile: nobody knows here."""
        client = start("stock-websocket", "given", "orders:given", token=token("given", "orders:given"))
        answer = scene.other.request("POST", "/api/users/given/subscribe", {"channel": "orders:gift"})[1]
        assert answer["connections"] == 1
        with scene.away(client):
            scene.publish("orders:gift", 1)
        back(client, recovered=False)
        assert "orders:gift" not in client.records_of("ready")[1]["channels"]


def test_a_redis_that_forgot_everything(clients: list[ClientProcess], tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("redis", "hub")]
    for folder in folders:
        folder.mkdir()
    redis = RedisProcess(folders[0]).start()
    hub = hub_of(folders[1], redis, "forgets").start()
    door = Proxy(hub.port, plain=True)
    try:
        url = f"http://127.0.0.1:{door.port}"
        client = ClientProcess("stock-websocket", url, token=token("u", "orders:*"), channels=["orders:1"])
        clients.append(client.wait_ready())
        hub.publish("orders:1", "updated", {"n": 0})
        got(client, 1)
        door.refuse()
        with redis.client() as asked:
            wait_until(lambda: asked.keys("*session:*"), why="the session is kept")
            asked.flushall()
        wait_until(lambda: hub.metric("tidings_epochs_total") == 1, why="the node knows")
        door.accept_again()
        back(client, recovered=False)
        hub.publish("orders:1", "updated", {"n": 1})
        got(client, 2)
        door.refuse()
        door.accept_again()
        back(client, 3)
    finally:
        door.close()
        hub.stop()
        redis.stop()


def test_one_node_in_memory_for_trial(clients: list[ClientProcess], tmp_path: Path) -> None:
    """Without a token the pid is who it is."""
    hub = HubProcess(tmp_path, "--dev").start()
    door = Proxy(hub.port, plain=True)
    try:
        client = ClientProcess("stock-websocket", f"http://127.0.0.1:{door.port}", channels=["demo:1"])
        clients.append(client.wait_ready())
        time.sleep(0.1)  # it is kept soon after it was opened
        door.refuse()
        hub.publish("demo:1", "updated", {"n": 0})
        door.accept_again()
        back(client)
        got(client, 1)
        assert client.records_of("ready")[1]["user"] == client.records_of("ready")[0]["user"]
    finally:
        door.close()
        hub.stop()


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    hub = HubProcess(tmp_path, extra="recovery_window_s = 0\n").start()
    try:
        assert connect_events(hub.port, {"token": token("u"), "pid": "x" * 24, "offset": "e.1"})[1].keys() == {"sid"}
    finally:
        hub.stop()


def sessions(scene: Scene, user: str) -> list[dict[str, Any]]:
    rows = scene.one.get("/api/connections?limit=1000")[1]["connections"]
    return sorted((row for row in rows if row["user"] == user), key=lambda row: str(row["node"]))


def members(scene: Scene, channel: str) -> list[str]:
    return sorted(one["user"] for one in scene.one.get(f"/api/channels/{channel}/presence")[1]["members"])
