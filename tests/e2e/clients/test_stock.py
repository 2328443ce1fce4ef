"""Unmodified Socket.IO clients recover after a reconnect: same id, and every missed publication once and in order."""

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
    """Two nodes on one Redis, and a proxy in front of the first."""

    redis: RedisProcess
    first: HubProcess
    second: HubProcess
    proxy: Proxy

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.proxy.port}"

    @contextmanager
    def disconnected(self, client: ClientProcess) -> Iterator[None]:
        """Refuse connections at the proxy for the duration of the block, after the client has noticed."""
        before = len(client.records_of("disconnect"))
        self.proxy.refuse()
        client.wait(lambda client: len(client.records_of("disconnect")) > before, why="the client is disconnected")
        try:
            yield
        finally:
            self.proxy.accept_again()

    def publish(self, channel: str, *numbers: int) -> None:
        for number in numbers:
            self.second.publish(channel, "updated", {"n": number})

    def session_keys(self, sid: str) -> list[bytes]:
        """Return the Redis key under which a session is stored; an empty list if it is not stored."""
        with self.redis.client() as client:
            keys: list[bytes] = client.keys(f"*:session:{sid}")
        return keys

    def wait_stored(self, sid: str) -> None:
        """Wait until a session is in the session store: it is written soon after it was opened."""
        wait_until(lambda: self.session_keys(sid), why="the session is stored")

    def refused(self, reason: str) -> float:
        """Return how many recoveries both nodes refused for this reason."""
        return sum(
            float(line.split()[-1])
            for hub in (self.first, self.second)
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
def nodes(redis: RedisProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[HubProcess]]:
    hubs = [hub_of(tmp_path_factory.mktemp(name), redis, name) for name in ("first", "second")]
    try:
        for hub in hubs:
            hub.start()
        yield hubs
    finally:
        for hub in hubs:
            hub.stop()
    assert not [hub for hub in hubs if "Traceback" in hub.log.read_text()]


@pytest.fixture
def scene(redis: RedisProcess, nodes: list[HubProcess]) -> Iterator[Scene]:
    proxy = Proxy(nodes[0].port, plain=True)
    yield Scene(redis, *nodes, proxy)
    proxy.close()


@pytest.fixture
def start(scene: Scene, clients: list[ClientProcess]) -> Start:
    def start_client(kind: str, user: str, *channels: str, **options: Any) -> ClientProcess:
        auth_token = options.pop("token", None) or token(user, "orders:*", "brief:*")
        client = ClientProcess(
            kind, options.pop("url", scene.url), token=auth_token, channels=list(channels), **options
        )
        clients.append(client)
        return client.wait_ready()

    return start_client


def numbers(client: ClientProcess) -> list[int]:
    return [data["n"] for data in client.data()]


def wait_publications(client: ClientProcess, count: int) -> None:
    client.wait(lambda client: len(client.data()) >= count, why=f"{count} publications")


def wait_reconnected(client: ClientProcess, times: int = 2, *, recovered: bool = True) -> None:
    """Wait for a reconnect, and check the id and the `recovered` flag of the client's library."""
    client.wait_ready(times)
    connects = client.records_of("connect")
    assert connects[times - 1]["recovered"] is recovered, client.records_of("ready")[-1]
    assert (connects[times - 1]["id"] == connects[times - 2]["id"]) is recovered


def refusal(client: ClientProcess) -> dict[str, Any]:
    """Wait for the error in response to CONNECT and return its data."""
    client.wait(
        lambda client: any("data" in record for record in client.records_of("connect_error")),
        why="the client is refused",
    )
    return next(record["data"] for record in client.records_of("connect_error") if "data" in record)


@pytest.mark.parametrize("kind", KINDS)
def test_reconnected_client_keeps_its_id_and_receives_everything(kind: str, scene: Scene, start: Start) -> None:
    channel = f"orders:cut-{kind}"
    client = start(kind, f"cut-{kind}", channel)
    scene.publish(channel, 0, 1, 2)
    wait_publications(client, 3)
    with scene.disconnected(client):
        scene.publish(channel, 3, 4, 5)
    scene.publish(channel, 6)
    wait_reconnected(client)
    wait_publications(client, 7)
    assert client.records_of("ready")[1]["channels"][channel] == {"recovered": True}
    # Again, on the second node, which has not seen this session before.
    with scene.disconnected(client):
        scene.publish(channel, 7)
        scene.proxy.lead_to(scene.second.port)
    wait_reconnected(client, 3)
    scene.publish(channel, 8)
    wait_publications(client, 9)
    assert numbers(client) == list(range(9))


@pytest.mark.parametrize("kind", ["stock-websocket", "stock-polling", "stock4.6-websocket"])
def test_client_without_any_publication_yet_is_recovered(kind: str, scene: Scene, start: Start) -> None:
    channel = f"orders:none-{kind}"
    client = start(kind, f"none-{kind}", channel)
    with scene.disconnected(client):
        scene.publish(channel, 0, 1)
    wait_reconnected(client)
    wait_publications(client, 2)
    with scene.disconnected(client):
        pass
    wait_reconnected(client, 3)
    scene.publish(channel, 2)
    wait_publications(client, 3)
    assert numbers(client) == [0, 1, 2]


@pytest.mark.parametrize("kind", ["stock-websocket", "stock-polling", "stock4.6-polling"])
def test_later_subscriptions_are_recovered(kind: str, scene: Scene, start: Start) -> None:
    initial, later, unsubscribed = (f"orders:{name}-{kind}" for name in ("initial", "later", "unsubscribed"))
    client = start(kind, f"later-{kind}", initial, unsubscribed)
    scene.publish(initial, 0)
    # Published before the client subscribes, so it is not delivered.
    scene.publish(later, 100)
    assert client.request("tidings:subscribe", {"channels": [later]})["channels"] == {later: {"recovered": False}}
    assert client.request("tidings:unsubscribe", {"channels": [unsubscribed]}) == {}
    wait_publications(client, 1)
    with scene.disconnected(client):
        scene.publish(later, 1)
        scene.publish(unsubscribed, 101)
        scene.publish(initial, 2)
    wait_reconnected(client)
    scene.publish(later, 3)
    wait_publications(client, 4)
    assert numbers(client) == [0, 1, 2, 3]
    # Channels in CONNECT are always subscribed to. `recovered` is false for the one that was unsubscribed.
    channels = client.records_of("ready")[1]["channels"]
    assert {name: channels[name]["recovered"] for name in (initial, later, unsubscribed)} == {
        initial: True,
        later: True,
        unsubscribed: False,
    }


def test_cut_right_after_a_subscription_with_a_cursor_is_not_recovered(scene: Scene, start: Start) -> None:
    since = scene.second.publish("orders:early", "updated", {"n": 0})["cursor"]
    scene.publish("orders:early", 1, 2)
    client = start("stock-websocket", "early", "orders:calm")
    assert client.request("tidings:subscribe", {"channels": ["orders:early"], "since": since})["channels"] == {
        "orders:early": {"recovered": True}
    }
    wait_publications(client, 2)
    # The hub does not know whether the client received them: its offset may be older.
    with scene.disconnected(client):
        scene.publish("orders:early", 3)
    wait_reconnected(client, recovered=False)
    # A client that received a later publication has received them.
    client.request("tidings:subscribe", {"channels": ["orders:early"]})
    scene.publish("orders:early", 4)
    wait_publications(client, 3)
    with scene.disconnected(client):
        scene.publish("orders:early", 5)
    wait_reconnected(client, 3)
    wait_publications(client, 4)
    assert numbers(client) == [1, 2, 4, 5]
    assert scene.refused("unsettled") == 1


@pytest.mark.parametrize("kind", ["stock-websocket", "stock-polling"])
def test_history_that_is_too_short_is_not_recovered(kind: str, scene: Scene, start: Start) -> None:
    channel, complete = f"brief:{kind}", f"orders:complete-{kind}"
    client = start(kind, f"brief-{kind}", channel, complete)
    scene.publish(channel, 0)
    wait_publications(client, 1)
    with scene.disconnected(client):
        scene.publish(complete, 1)
        # Redis trims a stream in blocks of a hundred entries.
        scene.publish(channel, *range(100, 350))
    wait_reconnected(client, recovered=False)
    assert client.records_of("ready")[1]["channels"][channel] == {"recovered": False}
    scene.publish(channel, 2)
    wait_publications(client, 2)
    # All or nothing: the channel with complete history is not recovered either.
    assert numbers(client) == [0, 2]
    with scene.disconnected(client):
        scene.publish(channel, 3)
    wait_reconnected(client, 3)
    wait_publications(client, 3)
    assert numbers(client) == [0, 2, 3]


@pytest.mark.parametrize("has_changed", [False, True])
def test_session_with_missed_presence_changes_is_not_recovered(has_changed: bool, scene: Scene, start: Start) -> None:
    room = f"room:{has_changed}"
    client = start("stock-websocket", "watches", room, presence=[room])
    client.wait(lambda client: client.records_of("join"), why="its own join")
    with scene.disconnected(client):
        if has_changed:
            start("stock-websocket", "moves", room, url=scene.second.url)
            wait_until(lambda: members(scene, room) == ["moves", "watches"], why="the second member has joined")
    wait_reconnected(client, recovered=not has_changed)
    assert client.records_of("ready")[1]["presence"] == {room: {"recovered": not has_changed}}
    # Presence that CONNECT requests is subscribed to in both cases.
    late = start("stock-websocket", "late", room, url=scene.second.url)
    client.wait(
        lambda client: any(record["members"][0]["user"] == "late" for record in client.records_of("join")), why="a join"
    )
    late.stop()


@pytest.mark.parametrize("kind", ["stock-websocket", "stock4.6-websocket", "stock-polling"])
def test_client_of_a_killed_node_is_recovered_on_another(
    kind: str, redis: RedisProcess, scene: Scene, start: Start, tmp_path: Path
) -> None:
    node = hub_of(tmp_path, redis, f"killed-{kind.replace('.', '')}").start()
    channel, later = f"orders:killed-{kind}", f"orders:killed-later-{kind}"
    try:
        scene.proxy.lead_to(node.port)
        client = start(kind, f"killed-{kind}", channel)
        client.request("tidings:subscribe", {"channels": [later]})
        scene.publish(channel, 0)
        wait_publications(client, 1)
        scene.proxy.refuse()
    finally:
        node.stop()
    scene.publish(channel, 1)
    scene.publish(later, 2)
    scene.proxy.lead_to(scene.first.port)
    scene.proxy.accept_again()
    wait_reconnected(client)
    scene.publish(channel, 3)
    wait_publications(client, 4)
    assert numbers(client) == [0, 1, 2, 3]


def test_client_of_a_draining_node_is_recovered_on_another(
    redis: RedisProcess, scene: Scene, start: Start, tmp_path: Path
) -> None:
    node = hub_of(tmp_path, redis, "drains", "drain_notice_s = 0.0\ndrain_s = 0.2\n").start()
    scene.proxy.lead_to(node.port)
    client = start("stock-websocket", "drained", "orders:drained")
    scene.publish("orders:drained", 0)
    wait_publications(client, 1)
    scene.proxy.lead_to(scene.first.port) if node.terminate() == 0 else None
    wait_reconnected(client)
    scene.publish("orders:drained", 1)
    wait_publications(client, 2)
    assert numbers(client) == [0, 1]


class TestPid:
    """A pid is a secret of one user and recovers one connection at a time."""

    def test_only_one_of_two_connections_with_the_same_pid_is_recovered(self, scene: Scene) -> None:
        auth: dict[str, object] = {"token": token("twice", "orders:*"), "channels": ["orders:twice"]}
        _, answer, events = connect_events(scene.first.port, auth)
        scene.wait_stored(answer["sid"])
        reconnect = auth | {"pid": answer["pid"], "offset": events[0][-1]}
        with ThreadPoolExecutor(2) as pool:
            responses = list(pool.map(lambda hub: connect_events(hub.port, reconnect)[1], (scene.first, scene.second)))
        assert [response["pid"] for response in responses].count(answer["pid"]) == 1
        assert [response["sid"] for response in responses].count(answer["sid"]) == 1

    def test_reconnect_takes_over_and_closes_the_old_connection(self, scene: Scene) -> None:
        """The node of the old connection has not noticed that the client is disconnected."""
        auth: dict[str, object] = {"token": token("taken", "orders:*"), "channels": ["orders:taken"]}
        old, answer, events = connect_events(scene.first.port, auth)
        for hub in (scene.second, scene.first, scene.first):
            scene.wait_stored(answer["sid"])
            _, response, _ = connect_events(hub.port, auth | {"pid": answer["pid"], "offset": events[0][-1]})
            assert response == answer
        wait_until(lambda: len(sessions(scene, "taken")) == 1, why="the old connections are closed")
        packets = "".join(poll_packets(scene.first.port, old))
        assert '"code":"replaced"' in packets
        assert "41" not in packets.split("\x1e")

    @pytest.mark.parametrize("kind", KINDS)
    def test_client_survives_an_old_connect_that_is_read_late(self, scene: Scene, start: Start, kind: str) -> None:
        """A node that stood still reads the CONNECT of a connection that the client has left."""
        client = start(kind, "late", "orders:late")
        scene.publish("orders:late", 0)
        wait_publications(client, 1)
        connected = client.records_of("connect")[0]
        scene.wait_stored(connected["id"])
        auth = {"token": token("late", "orders:*"), "pid": connected["pid"]}
        connect_events(scene.second.port, auth | {"offset": client.records_of("publication")[0]["cursor"]})
        wait_reconnected(client)
        scene.publish("orders:late", 1)
        wait_publications(client, 2)
        assert numbers(client) == [0, 1]

    def test_pid_of_another_user_is_refused(self, scene: Scene) -> None:
        auth: dict[str, object] = {"token": token("mine", "orders:*"), "channels": ["orders:mine"]}
        _, answer, events = connect_events(scene.first.port, auth)
        scene.wait_stored(answer["sid"])
        thief = {"token": token("thief", "orders:*"), "pid": answer["pid"], "offset": events[0][-1]}
        _, thief_answer, thief_events = connect_events(scene.second.port, thief)
        assert thief_answer["sid"] != answer["sid"]
        assert thief_answer["pid"] != answer["pid"]
        assert thief_events[0][1]["channels"].keys() == {"user:thief"}
        assert scene.refused("user") == 1
        # It is still valid for its owner.
        assert connect_events(scene.second.port, auth | {"pid": answer["pid"], "offset": events[0][-1]})[1] == answer

    @pytest.mark.parametrize("pid", ["x", "x" * 24, 7, {"a": 1}, ["x"], "\u00e9" * 20, ""])
    def test_malformed_pid_is_replaced_by_a_new_one(self, scene: Scene, pid: object) -> None:
        _, answer, _ = connect_events(scene.first.port, {"token": token("none"), "pid": pid, "offset": 5})
        assert answer.keys() == {"sid", "pid"}
        assert answer["pid"] != pid

    @pytest.mark.parametrize("offset", [None, 5, "garbage", "", "other.1"])
    def test_invalid_offset_is_not_recovered(self, scene: Scene, offset: object) -> None:
        auth: dict[str, object] = {"token": token("offset", "orders:*"), "channels": ["orders:offset"]}
        _, answer, _ = connect_events(scene.first.port, auth)
        scene.wait_stored(answer["sid"])
        _, response, events = connect_events(scene.second.port, auth | {"pid": answer["pid"], "offset": offset})
        assert response["sid"] != answer["sid"]
        assert events[0][1]["channels"]["orders:offset"] == {"recovered": False}

    def test_client_that_never_received_ready_is_not_recovered(self, scene: Scene) -> None:
        """It was disconnected right after the response to CONNECT, so it has the offset of its previous session."""
        auth: dict[str, object] = {"token": token("unready", "orders:*"), "channels": ["orders:unready"]}
        offset = connect_events(scene.first.port, auth)[2][0][-1]
        previous = auth | {"pid": "of-a-session-that-has-ended", "offset": offset}
        _, answer, _ = connect_events(scene.first.port, previous)
        scene.wait_stored(answer["sid"])
        _, response, _ = connect_events(scene.first.port, previous | {"pid": answer["pid"]})
        assert response["pid"] != answer["pid"]
        assert scene.refused("unready") == 1

    def test_client_can_opt_out_of_a_pid(self, scene: Scene) -> None:
        _, answer, _ = connect_events(scene.first.port, {"token": token("own"), "pid": None})
        assert answer.keys() == {"sid"}

    def test_pid_is_not_stored_in_the_broker(self, scene: Scene) -> None:
        _, answer, _ = connect_events(scene.first.port, {"token": token("secret")})
        scene.wait_stored(answer["sid"])
        (name,) = scene.session_keys(answer["sid"])
        with scene.redis.client() as client:
            assert answer["pid"].encode() not in name + client.get(name)


class TestAuth:
    """A reconnect needs a valid token as well: a pid alone is not enough."""

    def test_expired_token_is_refused(self, scene: Scene, start: Start) -> None:
        before = scene.first.metric("tidings_auth_failures_total")
        # `exp` is a whole second, up to one second later than requested.
        ended_s = time.time() + 3
        client = start("stock-websocket", "ended", "orders:ended", token=token("ended", "orders:*", expires_in_s=2))
        with scene.disconnected(client):
            time.sleep(max(0.0, ended_s - time.time()) + 0.1)
        # A client that could reconnect with another token is closed without a response.
        wait_until(lambda: scene.first.metric("tidings_auth_failures_total") > before, why="the client is refused")
        assert len(client.records_of("connect")) == 1

    def test_revoked_user_is_refused(self, scene: Scene, start: Start) -> None:
        client = start("stock-websocket", "gone", "orders:gone")
        with scene.disconnected(client):
            assert scene.second.request("POST", "/api/revocations", {"user": "gone", "for_s": 60})[0] == 201
        assert refusal(client)["code"] == "revoked"

    def test_revoking_a_token_ends_its_session(self, scene: Scene) -> None:
        auth: dict[str, object] = {"token": token("jti", "orders:*", jti="first"), "channels": ["orders:jti"]}
        _, answer, events = connect_events(scene.first.port, auth)
        scene.wait_stored(answer["sid"])
        assert scene.second.request("POST", "/api/revocations", {"jti": "first", "for_s": 60})[0] == 201
        reconnect = {"token": token("jti", "orders:*", jti="second"), "pid": answer["pid"], "offset": events[0][-1]}
        assert connect_events(scene.second.port, reconnect)[1]["pid"] != answer["pid"]

    def test_token_that_covers_fewer_channels_is_not_recovered(self, scene: Scene) -> None:
        auth: dict[str, object] = {"token": token("less", "orders:*"), "channels": ["orders:less", "orders:more"]}
        _, answer, events = connect_events(scene.first.port, auth)
        scene.wait_stored(answer["sid"])
        reconnect = auth | {"token": token("less", "orders:less"), "pid": answer["pid"], "offset": events[0][-1]}
        _, response, events = connect_events(scene.second.port, reconnect)
        assert response["sid"] != answer["sid"]
        assert events[0][1]["channels"]["orders:more"]["error"]["code"] == "forbidden"


class TestEndedSession:
    """A session that the client or the backend ended is not recovered."""

    def test_session_ended_by_the_client_is_not_recovered(self, scene: Scene, start: Start) -> None:
        client = start("stock-websocket", "leaves", "orders:leaves")
        sid = client.records_of("connect")[0]["id"]
        scene.wait_stored(sid)
        client.send_command({"call": "disconnect"})
        wait_until(lambda: not scene.session_keys(sid), why="the session is deleted")
        client.send_command({"call": "connect"})
        wait_reconnected(client, recovered=False)

    def test_session_ended_by_the_backend_is_not_recovered(self, scene: Scene, start: Start) -> None:
        client = start("stock-websocket", "sent", "orders:sent")
        scene.wait_stored(client.records_of("connect")[0]["id"])
        assert scene.second.request("POST", "/api/users/sent/disconnect", {})[1]["disconnected"] == 1
        wait_reconnected(client, recovered=False)

    def test_session_with_a_channel_subscribed_by_the_backend_is_not_recovered(
        self, scene: Scene, start: Start
    ) -> None:
        """The backend may have unsubscribed it in the meantime, and the node cannot know that."""
        client = start("stock-websocket", "given", "orders:given", token=token("given", "orders:given"))
        answer = scene.second.request("POST", "/api/users/given/subscribe", {"channel": "orders:gift"})[1]
        assert answer["connections"] == 1
        with scene.disconnected(client):
            scene.publish("orders:gift", 1)
        wait_reconnected(client, recovered=False)
        assert "orders:gift" not in client.records_of("ready")[1]["channels"]


def test_session_is_not_recovered_after_redis_is_flushed(clients: list[ClientProcess], tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("redis", "hub")]
    for folder in folders:
        folder.mkdir()
    redis = RedisProcess(folders[0]).start()
    hub = hub_of(folders[1], redis, "forgets").start()
    proxy = Proxy(hub.port, plain=True)
    try:
        url = f"http://127.0.0.1:{proxy.port}"
        client = ClientProcess("stock-websocket", url, token=token("u", "orders:*"), channels=["orders:1"])
        clients.append(client.wait_ready())
        hub.publish("orders:1", "updated", {"n": 0})
        wait_publications(client, 1)
        proxy.refuse()
        with redis.client() as redis_client:
            wait_until(lambda: redis_client.keys("*session:*"), why="the session is stored")
            redis_client.flushall()
        wait_until(lambda: hub.metric("tidings_epochs_total") == 1, why="the node notices")
        proxy.accept_again()
        wait_reconnected(client, recovered=False)
        hub.publish("orders:1", "updated", {"n": 1})
        wait_publications(client, 2)
        proxy.refuse()
        proxy.accept_again()
        wait_reconnected(client, 3)
    finally:
        proxy.close()
        hub.stop()
        redis.stop()


def test_client_is_recovered_by_the_in_memory_broker(clients: list[ClientProcess], tmp_path: Path) -> None:
    """Without a token the pid identifies the user."""
    hub = HubProcess(tmp_path, "--dev").start()
    proxy = Proxy(hub.port, plain=True)
    try:
        client = ClientProcess("stock-websocket", f"http://127.0.0.1:{proxy.port}", channels=["demo:1"])
        clients.append(client.wait_ready())
        time.sleep(0.1)  # the session is stored soon after it was opened
        proxy.refuse()
        hub.publish("demo:1", "updated", {"n": 0})
        proxy.accept_again()
        wait_reconnected(client)
        wait_publications(client, 1)
        assert client.records_of("ready")[1]["user"] == client.records_of("ready")[0]["user"]
    finally:
        proxy.close()
        hub.stop()


def test_recovery_can_be_disabled(tmp_path: Path) -> None:
    hub = HubProcess(tmp_path, extra="recovery_window_s = 0\n").start()
    try:
        assert connect_events(hub.port, {"token": token("u"), "pid": "x" * 24, "offset": "e.1"})[1].keys() == {"sid"}
    finally:
        hub.stop()


def sessions(scene: Scene, user: str) -> list[dict[str, Any]]:
    rows = scene.first.get("/api/connections?limit=1000")[1]["connections"]
    return sorted((row for row in rows if row["user"] == user), key=lambda row: str(row["node"]))


def members(scene: Scene, channel: str) -> list[str]:
    return sorted(member["user"] for member in scene.first.get(f"/api/channels/{channel}/presence")[1]["members"])
