"""The main use case: a backend process emits through Redis, and clients receive every publication in order."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from support.network.proxy import Proxy
from support.processes.client import KINDS, ClientProcess
from support.processes.hub import HubProcess, environment, token
from support.processes.redis import RedisProcess

EMIT = """
import sys
from tidings import Emitter
url, channel, first, last = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
with Emitter(url) as emitter:
    for number in range(first, last):
        emitter.emit("updated", {"n": number}, channel=channel)
"""


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    process = RedisProcess(tmp_path_factory.mktemp("redis")).start()
    yield process
    process.stop()


@pytest.fixture(scope="module")
def hub(redis: RedisProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    process = HubProcess(tmp_path_factory.mktemp("hub"), "--broker", redis.url).start()
    yield process
    process.stop()


def emit_from_another_process(redis: RedisProcess, channel: str, first: int, last: int) -> None:
    """Emit from another process, as a backend does."""
    command = [sys.executable, "-c", EMIT, redis.url, channel, str(first), str(last)]
    subprocess.run(command, check=True, timeout=60, env=environment())


def numbers(first: int, last: int) -> list[dict[str, int]]:
    return [{"n": number} for number in range(first, last)]


def test_every_kind_of_client_receives_everything_in_order(
    redis: RedisProcess, hub: HubProcess, clients: list[ClientProcess]
) -> None:
    for kind in KINDS:
        user = f"u-{kind}"
        clients.append(ClientProcess(kind, hub.url, token=token(user, "orders:*"), channels=["orders:main"]))
    for client in clients:
        client.wait_ready()
    emit_from_another_process(redis, "orders:main", 0, 300)
    for client in clients:
        client.wait(lambda client: len(client.data("orders:main")) >= 300, why="300 publications")
        assert client.data("orders:main") == numbers(0, 300)


@pytest.mark.parametrize("kind", KINDS)
def test_a_disconnected_client_recovers_missed_publications(
    kind: str, redis: RedisProcess, hub: HubProcess, clients: list[ClientProcess]
) -> None:
    channel = f"orders:cut-{kind}"
    with closing(Proxy(hub.port, plain=True)) as proxy:
        client = ClientProcess(
            kind, f"http://127.0.0.1:{proxy.port}", token=token(f"c-{kind}", "orders:*"), channels=[channel]
        )
        clients.append(client)
        client.wait_ready()
        emit_from_another_process(redis, channel, 0, 20)
        client.wait(lambda client: len(client.data(channel)) == 20, why="publications before the disconnect")
        proxy.refuse()
        emit_from_another_process(redis, channel, 20, 60)
        proxy.accept_again()
        client.wait_ready(2)
        emit_from_another_process(redis, channel, 60, 80)
        client.wait(lambda client: len(client.data(channel)) >= 80, why="publications during and after the disconnect")
    assert client.data(channel) == numbers(0, 80)
    assert client.records_of("ready")[1]["channels"][channel] == {"recovered": True}


def test_user_channel_reaches_only_connections_of_the_user(
    redis: RedisProcess, hub: HubProcess, clients: list[ClientProcess]
) -> None:
    for kind in ("js-websocket", "sse", "python-polling"):
        client = ClientProcess(kind, hub.url, token=token("anna", "orders:*"), channels=["orders:quiet"])
        clients.append(client)
    other = ClientProcess("js-websocket", hub.url, token=token("bert", "orders:*"), channels=["orders:quiet"])
    clients.append(other)
    for client in clients:
        client.wait_ready()
    emit_from_another_process(redis, "user:anna", 0, 5)
    emit_from_another_process(redis, "user:bert", 100, 101)
    other.wait(lambda client: client.data(), why="bert's own publication")
    for client in clients[:3]:
        client.wait(lambda client: len(client.data()) == 5, why="anna's publications")
        assert client.data() == numbers(0, 5)
    assert other.data() == numbers(100, 101)


def test_client_cannot_use_up_the_ids_of_others(hub: HubProcess, clients: list[ClientProcess]) -> None:
    """The hub answered that it was a duplicate, and never delivered what a backend or another user published."""
    publication = {"channel": "chat:ids", "event": "said", "id": "order-42-paid"}
    answers = []
    for user in ("mallory", "carl"):
        client = ClientProcess("js-websocket", hub.url, token=token(user), channels=["chat:ids"])
        clients.append(client)
        client.wait_ready()
        answers.append(client.request("tidings:publish", {**publication, "data": {"by": user}}))
    answers.append(hub.publish("chat:ids", "said", {"by": "backend"}, id="order-42-paid"))
    assert [answer["duplicate"] for answer in answers] == [False, False, False]
    expected = [{"by": "mallory"}, {"by": "carl"}, {"by": "backend"}]
    clients[0].wait(lambda client: client.data("chat:ids") == expected, why="the publications of all")


def test_client_events_are_answered(hub: HubProcess, clients: list[ClientProcess]) -> None:
    client = ClientProcess("js-websocket", hub.url, token=token("carl", "orders:*"), channels=[])
    clients.append(client)
    client.wait_ready()
    first = hub.publish("chat:room", "said", {"text": "one"})
    assert client.request(
        "tidings:subscribe", {"channels": ["chat:room", "nowhere:x", "bad"], "since": first["cursor"]}
    )["channels"] | {"nowhere:x": 0, "bad": 0} == {"chat:room": {"recovered": True}, "nowhere:x": 0, "bad": 0}
    receipt = client.request(
        "tidings:publish", {"channel": "chat:room", "event": "said", "data": {"text": "two"}, "id": "mine-1"}
    )
    repeated = client.request(
        "tidings:publish", {"channel": "chat:room", "event": "said", "data": {"text": "two"}, "id": "mine-1"}
    )
    assert (receipt["duplicate"], repeated["duplicate"], receipt["cursor"]) == (False, True, repeated["cursor"])
    client.wait(lambda client: client.data("chat:room") == [{"text": "two"}], why="its own publication")
    history = client.request("tidings:history", {"channel": "chat:room", "limit": 10})
    assert [item["data"] for item in history["publications"]] == [{"text": "one"}, {"text": "two"}]
    refused = client.request("tidings:publish", {"channel": "orders:1", "event": "x", "data": 1})
    assert refused["error"]["code"] == "forbidden"
    assert client.request("tidings:unsubscribe", {"channels": ["chat:room"]}) == {}
    hub.publish("chat:room", "said", {"text": "three"})
    hub.publish("user:carl", "said", {"text": "end"})
    client.wait(lambda client: client.data("user:carl"), why="the last publication")
    assert client.data("chat:room") == [{"text": "two"}]
    assert client.request("nonsense", {})["error"]["code"] == "bad_request"
    assert client.request("tidings:subscribe", {"channels": []})["error"]["code"] == "bad_channel"
    assert (
        client.request("tidings:subscribe", {"channels": ["orders:1"], "since": "x"})["error"]["code"] == "bad_cursor"
    )


def test_hub_drains_on_sigterm(redis: RedisProcess, tmp_path: Path, clients: list[ClientProcess]) -> None:
    hub = HubProcess(tmp_path, "--broker", redis.url, extra="drain_s = 0.5\n").start()
    try:
        for kind in ("js-websocket", "js-polling", "sse"):
            client = ClientProcess(kind, hub.url, token=token(f"d-{kind}", "orders:*"), channels=["orders:drain"])
            clients.append(client)
        for client in clients:
            client.wait_ready()
        assert hub.terminate() == 0
        for client in clients:
            client.wait(lambda client: client.records_of("disconnect"), why="the disconnect")
        assert clients[0].records_of("close")[0]["code"] == "draining"
        hub.start()
        for client in clients:
            client.wait_ready(2)
            assert client.records_of("ready")[1]["channels"]["orders:drain"] == {"recovered": True}
    finally:
        hub.stop()
