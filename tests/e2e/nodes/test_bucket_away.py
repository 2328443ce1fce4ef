"""A cluster whose bucket 0 is away: sessions and commands are stored there. Clients of other buckets are served."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from support.network.raw_client import RawWebSocket
from support.processes.cluster import ClusterProcess
from support.processes.hub import HubProcess, token
from support.waiting import wait_until
from tidings import Emitter
from tidings.redis_client.buckets import bucket_of
from tidings.redis_client.topology import open_buckets

PATH = "/socket.io/?EIO=4&transport=websocket"
BUCKETS = 4
NEW_CLIENTS = 300
# The first publishes wait for the broker's timeout, the next ones do not.
ROUNDS = 5
REFUSED_PUBLISHES = r'tidings_broker_calls_refused_total\{code="publishes",node="one"\}'
# Codes below 4500: the client may reconnect.
MAY_RETURN = range(4000, 4500)
SETTINGS = "recovery_away_s = 4.0\nbroker_timeout_s = 2.0\nhandlers = 16\n"


class ClusterScene:
    """A cluster without replicas, and hubs on it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "cluster").mkdir()
        self.cluster = ClusterProcess(folder / "cluster", replicas=False).start()
        self.url = self.cluster.url()
        self.slots = [bucket.address.slot for bucket in open_buckets(self.url, "tidings:")]
        owners = [self.cluster.owner(slot) for slot in self.slots]
        self.master = owners[0]
        self.away = {bucket for bucket, owner in enumerate(owners) if owner is self.master}
        self.hubs: list[HubProcess] = []

    def start_hub(self, name: str) -> HubProcess:
        folder = self._folder / name
        folder.mkdir()
        self.hubs.append(HubProcess(folder, "--broker", self.url, "--node-id", name, extra=SETTINGS))
        return self.hubs[-1].start()

    def names(self, prefix: str, count: int, *, away: bool = False) -> list[str]:
        """Names of channels with this prefix, in buckets that are away or not."""
        names = (f"{prefix}{number}" for number in range(100 * count))
        return [name for name in names if (bucket_of(name, BUCKETS) in self.away) is away][:count]

    def users(self, count: int) -> list[str]:
        """Users whose own channel is in a bucket that stays."""
        return [name.partition(":")[2] for name in self.names("user:u", count)]

    def revoked(self, bucket: int) -> Any:
        """What a bucket stores."""
        with self.cluster.client(self.slots[bucket]) as client:
            return client.hgetall(open_buckets(self.url, "tidings:")[bucket].keys.revoked)

    def close(self) -> None:
        self.master.resume()
        for hub in self.hubs:
            hub.stop()
        self.cluster.stop()
        assert not [hub for hub in self.hubs if "Traceback" in hub.log.read_text()]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterScene]:
    with closing(ClusterScene(tmp_path_factory.mktemp("scene"))) as new_scene:
        new_scene.start_hub("one")
        yield new_scene


@pytest.fixture
def frozen(scene: ClusterScene) -> Iterator[Callable[[], None]]:
    """A function that freezes the master of bucket 0. It is back when the test ends, and the hubs are whole."""
    yield scene.master.pause
    scene.master.resume()
    wait_until(scene.cluster.is_complete, within_s=60, why="the cluster is whole")
    for hub in scene.hubs:
        wait_until(lambda hub=hub: hub.metric("tidings_broker_parts_unserved") == 0, within_s=60, why="all is served")


def connect(hub: HubProcess, user: str, channels: Sequence[str], **fields: object) -> RawWebSocket:
    """A client that has sent its CONNECT."""
    client = RawWebSocket(hub.port, PATH)
    client.socket.settimeout(60)
    assert client.receive_text().startswith("0{")
    auth = {"token": token(user, "orders:*"), "channels": list(channels), **fields}
    client.send_text("40" + json.dumps(auth))
    return client


def ready_of(client: RawWebSocket) -> tuple[Any, Any]:
    """The data of the CONNECT packet and of `tidings:ready`."""
    packet, ready = client.receive_text(), client.receive_text()
    assert packet.startswith("40{"), packet
    return json.loads(packet[2:]), json.loads(ready[2:])[1]


def request(client: RawWebSocket, event: str, data: object) -> Any:
    """The acknowledgement of an event."""
    client.send_text("421" + json.dumps([event, data]))
    return answer_of(client)


def answer_of(client: RawWebSocket) -> Any:
    """The next acknowledgement."""
    while not (text := client.receive_text()).startswith("431"):
        pass
    return json.loads(text[3:])[0]


def answered(client: RawWebSocket) -> int:
    """The code that the client is closed with; 0: it is connected."""
    opcode, payload = client.frame()
    while (opcode, payload) == (1, b"2"):
        client.send_text("3")
        opcode, payload = client.frame()
    return int.from_bytes(payload[:2], "big") if opcode == 8 else 0


def connect_all(hub: HubProcess, users: Sequence[str], channels: Sequence[str], **fields: object) -> None:
    """Connect all of these, as clients do: they reconnect as often as they are sent back."""
    waiting, end_s = list(users), time.monotonic() + 60
    open_clients = []
    while waiting and time.monotonic() < end_s:
        attempts = [(user, connect(hub, user, channels, **fields)) for user in waiting]
        codes = [(user, client, answered(client)) for user, client in attempts]
        open_clients += [client for _, client, code in codes if code == 0]
        waiting = [user for user, _, code in codes if code]
        assert all(code == 0 or code in MAY_RETURN for _, _, code in codes)
        assert hub.get("/healthz")[0] == 200
    assert waiting == []


def test_clients_of_other_buckets_are_served_while_bucket_zero_is_away(
    scene: ClusterScene, frozen: Callable[[], None]
) -> None:
    hub, (channel, other) = scene.hubs[0], scene.names("orders:", 2)
    first, plain, returning, *users = scene.users(NEW_CLIENTS + 3)
    (away,) = scene.names("orders:", 1, away=True)
    with connect(hub, first, [channel], pid=None) as live, connect(hub, returning, [channel]) as previous:
        assert ready_of(live)[1]["channels"][channel] == {"recovered": False}
        packet, ready = ready_of(previous)
        frozen()
        # It is away as soon as one client has waited for it. From then on the others do not.
        with connect(hub, plain, [], pid="x" * 24, offset="e.1") as waits:
            assert answered(waits) in MAY_RETURN
        hub.publish(channel, "updated", {"n": 1})
        assert json.loads(live.receive_text()[2:])[:3:2] == ["updated", channel]
        connect_all(hub, users, [channel], pid="x" * 24, offset="e.1")
        assert hub.metric("tidings_returns_refused_total") >= NEW_CLIENTS
        assert hub.metric("tidings_broker_calls_refused_total") > 0
        # A new session, but `since` proves what is missed in each channel.
        fields = {"pid": packet["pid"], "offset": ready["cursor"], "since": ready["cursor"]}
        with connect(hub, returning, [channel], **fields) as back:
            packet_again, ready_again = ready_of(back)
            assert "pid" not in packet_again
            assert packet_again["sid"] != packet["sid"]
            assert ready_again["channels"][channel] == {"recovered": True}
            assert json.loads(back.receive_text()[2:])[:3:2] == ["updated", channel]
            # It is not stored, so it can join channels.
            answer = request(back, "tidings:subscribe", {"channels": [other]})
            assert answer["channels"] == {other: {"recovered": False}}
        with connect(hub, returning, [channel], pid=packet["pid"], offset="e.1", since="other-epoch.1") as lost:
            assert ready_of(lost)[1]["channels"][channel] == {"recovered": False}
        refused = [request(live, "tidings:subscribe", {"channels": [away]}) for _ in range(3)]
        assert {answer["error"]["code"] for answer in refused} == {"unavailable"}


def test_events_of_other_buckets_are_answered_while_clients_publish_to_one_that_is_away(
    scene: ClusterScene, frozen: Callable[[], None]
) -> None:
    hub, (channel,), users = scene.hubs[0], scene.names("chat:", 1), scene.users(24)
    (away,) = scene.names("chat:", 1, away=True)
    with ExitStack() as stack:
        asking, *senders = [stack.enter_context(connect(hub, user, [channel], pid=None)) for user in users]
        for client in (asking, *senders):
            ready_of(client)
        frozen()
        for _ in range(ROUNDS):
            for sender in senders:
                sender.send_text("421" + json.dumps(["tidings:publish", {"channel": away, "event": "said", "data": 1}]))
            assert "publications" in request(asking, "tidings:history", {"channel": channel})
            receipt = request(asking, "tidings:publish", {"channel": channel, "event": "said", "data": 1})
            assert "cursor" in receipt
            codes = [answer_of(sender)["error"]["code"] for sender in senders]
            assert set(codes) <= {"unavailable", "timeout"}
            if hub.metric(REFUSED_PUBLISHES) >= len(senders):
                break
        assert hub.metric(REFUSED_PUBLISHES) >= len(senders)


def test_a_node_that_starts_while_bucket_zero_is_away_refuses_what_was_revoked(
    scene: ClusterScene, frozen: Callable[[], None]
) -> None:
    first, (channel,), (user, later, other) = scene.hubs[0], scene.names("orders:", 1), scene.users(3)
    with Emitter(scene.url, timeout_s=6) as emitter:
        assert emitter.revoke(user=user, for_s=3600).nodes == 1
        assert [list(scene.revoked(bucket)) for bucket in range(BUCKETS)] == [[f"user:{user}".encode()]] * BUCKETS
        frozen()
        # Another bucket takes it meanwhile.
        assert emitter.revoke(user=later, for_s=3600).nodes == 1
    over_http = first.request("POST", "/api/revocations", {"jti": "x", "for_s": 3600})
    assert (over_http[0], over_http[1]["nodes"]) == (201, 1)
    second = scene.start_hub("two")
    for hub in (first, second):
        for revoked in (user, later):
            with connect(hub, revoked, [channel], pid=None) as client:
                assert "revoked" in client.receive_text()
        with connect(hub, other, [channel], pid=None) as client:
            ready_of(client)
    scene.master.resume()
    expected = {f"user:{user}".encode(), f"user:{later}".encode(), b"jti:x"}
    wait_until(scene.cluster.is_complete, within_s=60, why="the cluster is whole")
    for bucket in range(BUCKETS):
        wait_until(lambda bucket=bucket: set(scene.revoked(bucket)) == expected, within_s=60, why="it is written back")


def test_reload_while_bucket_zero_is_away_reaches_the_other_buckets_at_once_and_this_one_later(
    scene: ClusterScene, frozen: Callable[[], None]
) -> None:
    hub, (channel,), (away,) = scene.hubs[0], scene.names("fresh:", 1), scene.names("fresh:", 1, away=True)
    frozen()
    before = hub.metric("tidings_reloads_total"), hub.metric("tidings_reload_errors_total")
    hub.config.write_text(hub.config.read_text() + "[namespaces.fresh]\n")
    hub.reload()
    wait_until(lambda: hub.metric("tidings_reloads_total") == before[0] + 1, within_s=60, why="the rules are in force")

    def publishes(name: str) -> bool:
        return hub.request("POST", "/api/publish", {"channel": name, "event": "said", "data": 1})[0] == 200

    wait_until(lambda: publishes(channel), within_s=30, why="the other buckets have the rule")
    scene.master.resume()
    wait_until(lambda: publishes(away), within_s=60, why="this bucket has the rule")
    assert hub.metric("tidings_reload_errors_total") == before[1]


def test_sessions_are_resumed_again_when_bucket_zero_is_back(scene: ClusterScene) -> None:
    hub, (channel,), (user,) = scene.hubs[0], scene.names("orders:", 1), scene.users(1)
    user += "-again"

    def resumes() -> bool:
        with connect(hub, user, [channel]) as first:
            packet, ready = ready_of(first)
        if "pid" not in packet:
            return False
        with connect(hub, user, [], pid=packet["pid"], offset=ready["cursor"]) as second:
            return bool(ready_of(second)[0]["sid"] == packet["sid"])

    wait_until(resumes, within_s=60, why="a session is resumed")
