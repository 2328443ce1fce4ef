"""Backends with Socket.IO's Redis emitters: two hubs receive every message and publish it once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from e2e.compatibility.listening import LEASE_S, TwoHubs, publications_of, two_hubs, wait_publications
from support.processes.node_program import NodeProgram, run
from support.processes.redis import RedisProcess
from support.waiting import wait_until
from tidings.wire.msgpack import pack

INGRESS = """
[ingress.socketio_emitter]
prefixes = { "order-" = "orders:" }
"""


@pytest.fixture(scope="module")
def nodes(shared_redis: RedisProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoHubs]:
    with two_hubs(shared_redis, tmp_path_factory.mktemp("emitter"), "emitter:", INGRESS) as two:
        yield two


@pytest.fixture
def two(nodes: TwoHubs) -> Iterator[TwoHubs]:
    yield nodes
    nodes.stop_clients()


def emit(*steps: list[Any]) -> list[list[Any]]:
    return list(steps)


def to(room: str, *arguments: Any) -> list[list[Any]]:
    return emit(["to", [room]], ["emit", list(arguments)])


def publish(two: TwoHubs, channel: str, message: object) -> None:
    """Publish a message on Redis as an emitter in any language does."""
    with two.redis.client() as client:
        client.publish(channel, message if isinstance(message, bytes) else pack(message))


def test_npm_emitter_publishes(two: TwoHubs) -> None:
    clients = two.start_clients("7", "chat:a", "orders:1")
    messages = [
        to("chat:a", "one", {"n": 1, "t": "ü"}),
        to("order-1", "two", 2),
        emit(["to", [["chat:a", "order-1"]]], ["emit", ["three"]]),
        emit(["to", ["chat:a"]], ["volatile", None], ["emit", ["four", 4, [5]]]),
        to("user:7", "five", None),
        *([to("chat:a", "twin", {"same": True})] * 2),
    ]
    run("redis_emitter.mjs", {"port": two.redis.port, "messages": messages})
    wait_publications(
        clients,
        ("one", "chat:a", {"n": 1, "t": "ü"}),
        ("two", "orders:1", 2),
        ("three", "chat:a", None),
        ("three", "orders:1", None),
        ("four", "chat:a", [4, [5]]),
        ("five", "user:7", None),
        ("twin", "chat:a", {"same": True}),
        ("twin", "chat:a", {"same": True}),
    )


def test_old_npm_emitter_publishes(two: TwoHubs) -> None:
    clients = two.start_clients("7", "chat:a", "chat:b")
    messages = [to("chat:a", "one", {"n": 1}), emit(["to", ["chat:a"]], ["to", ["chat:b"]], ["emit", ["two", 2]])]
    run("redis_emitter.mjs", {"port": two.redis.port, "old": True, "messages": messages})
    wait_publications(clients, ("one", "chat:a", {"n": 1}), ("two", "chat:a", 2), ("two", "chat:b", 2))


def test_emitters_of_other_languages_publish(two: TwoHubs) -> None:
    clients = two.start_clients("7", "chat:a", "chat:b")
    packet = {"type": 2, "data": ["python", 1], "nsp": "/"}
    for room in ("chat:b", "chat:a"):
        # PyPI socket.io-emitter: one message per room, each with all rooms.
        options = {"flags": "", "rooms": ["chat:a", "chat:b"]}
        publish(two, f"socket.io#/#{room}#", ["emitter", packet, options])
    # Rust: without the last #.
    rust = {"type": 2, "data": ["rust", 2], "nsp": "/"}
    publish(two, "socket.io#/#chat:a", ["emitter", rust, {"rooms": ["chat:a"], "flags": {}}])
    # Old PHP and Go.
    publish(two, "socket.io#emitter", [{"type": 2, "data": ["php", 3]}, {"rooms": ["chat:a"], "flags": []}])
    wait_publications(
        clients,
        ("python", "chat:b", 1),
        ("python", "chat:a", 1),
        ("rust", "chat:a", 2),
        ("php", "chat:a", 3),
    )


def test_invalid_messages_are_counted_and_skipped(two: TwoHubs) -> None:
    clients = two.start_clients("7", "chat:a")
    before = two.count("refused_total")
    packet = {"type": 2, "data": ["bad", 1], "nsp": "/"}
    poison: list[Any] = [
        b"",
        b"\xc1",
        b"\x80\x04pickle",
        b"\xdd\xff\xff\xff\xff",
        b"\xdc\xff\xff" * 50_000,
        b"\x91" * 100_000,
        b'{"json": 1}',
        b"x" * 300_000,
        ["emitter", packet, {"rooms": [], "flags": {}}],
        ["emitter", packet, {"rooms": "", "flags": ""}],
        ["emitter", packet, {"rooms": ["nowhere:a"]}],
        ["emitter", packet, {"rooms": ["no-namespace"]}],
        ["emitter", packet, {"rooms": ["chat:a"], "except": ["chat:b"]}],
        ["emitter", {**packet, "data": ["bad", float("nan")]}, {"rooms": ["chat:a"]}],
        ["emitter", {**packet, "data": ["bad", b"\x01"]}, {"rooms": ["chat:a"]}],
        ["emitter", {**packet, "data": ["bad", "x" * 3000]}, {"rooms": ["chat:a"]}],
        ["emitter", {**packet, "data": ["connect", 1]}, {"rooms": ["chat:a"]}],
    ]
    for message in poison:
        publish(two, "socket.io#/#", message)
    publish(two, "socket.io-request#/#", b'{"type":6,"data":["ping"]}')
    run(
        "redis_emitter.mjs",
        {
            "port": two.redis.port,
            "messages": [
                emit(["emit", ["everyone", 1]]),
                to("chat:a", "nan", {"special": "NaN"}),
                to("chat:a", "bytes", {"special": "bytes"}),
                emit(["disconnectSockets", [True]]),
                emit(["in", ["chat:a"]], ["disconnectSockets", [True]]),
                to("chat:a", "good", 1),
            ],
        },
    )
    wait_publications(clients, ("good", "chat:a", 1))
    assert two.count("refused_total") == before + len(poison) + 6
    for hub in two.hubs.values():
        assert hub.log.read_text().count("was rejected") <= 2


def test_commands_for_a_user_are_applied(two: TwoHubs) -> None:
    clients = two.start_clients("7", "chat:a")
    bystanders = two.start_clients("8", "chat:a")
    ordered = two.count("ordered_total")

    def send(*messages: list[list[Any]]) -> None:
        run("redis_emitter.mjs", {"port": two.redis.port, "messages": messages})

    send(emit(["in", ["user:7"]], ["socketsJoin", ["chat:b"]]), to("chat:b", "joined", 1))
    wait_publications(clients, ("joined", "chat:b", 1))
    send(emit(["in", ["user:7"]], ["socketsLeave", ["chat:b"]]), to("chat:b", "left", 2), to("chat:a", "still", 3))
    wait_publications(clients, ("joined", "chat:b", 1), ("still", "chat:a", 3))
    send(emit(["in", ["user:7"]], ["disconnectSockets", [True]]))
    for client in clients:
        client.wait(lambda client: len(client.records_of("close")) == 1, why="the client is disconnected")
    wait_publications(bystanders, ("still", "chat:a", 3))
    assert all(client.records_of("close") == [] for client in bystanders)
    assert two.count("ordered_total") == ordered + 3


def test_nodes_of_socketio_do_not_wait_for_hubs(two: TwoHubs) -> None:
    server = NodeProgram("socketio_server.mjs", {"port": two.redis.port})
    try:
        server.read_line()
        answer = server.exchange("somewhere")
        assert answer["fetched"] == 0
        with two.redis.client() as client:
            assert client.pubsub_numsub("socket.io-request#/#") == [(b"socket.io-request#/#", 1)]
    finally:
        server.stop()


def numbered(two: TwoHubs, number: int) -> None:
    packet = {"type": 2, "data": ["n", number], "nsp": "/"}
    publish(two, "socket.io#/#chat:a#", ["emitter", packet, {"rooms": ["chat:a"], "flags": {}}])


def test_another_node_takes_over_when_the_listening_node_is_killed(two: TwoHubs) -> None:
    first = two.wait_listening()
    (survivor,) = (name for name in two.hubs if name != first)
    client = two.start_clients("7", "chat:a")[list(two.hubs).index(survivor)]
    numbered(two, 1)
    wait_publications([client], ("n", "chat:a", 1))
    two.hubs[first].stop()
    try:
        began_s = time.monotonic()
        assert two.wait_listening(except_for=first) == survivor
        assert time.monotonic() - began_s < 10 * LEASE_S
        numbered(two, 2)
        wait_publications([client], ("n", "chat:a", 1), ("n", "chat:a", 2))
    finally:
        two.hubs[first].start()
    numbered(two, 3)
    wait_publications([client], *(("n", "chat:a", number) for number in (1, 2, 3)))


def test_suspended_node_does_not_publish_a_message_twice(two: TwoHubs) -> None:
    first = two.wait_listening()
    (other,) = (name for name in two.hubs if name != first)
    client = two.start_clients("7", "chat:a")[list(two.hubs).index(other)]
    paused = two.hubs[first]
    paused.pause()
    try:
        two.wait_listening(except_for=first)
        for number in range(20):
            # Both nodes have these messages; the suspended one in the buffer of its socket.
            numbered(two, number)
        client.wait(lambda client: len(publications_of(client)) == 20, why="the other node publishes")
    finally:
        paused.resume()
    wait_until(lambda: paused.get("/readyz")[0] == 200, why="the node is resumed")
    wait_until(lambda: paused.metric("tidings_wires_listening") == 0, why="the node notices the lost lease")
    numbered(two, 20)
    wait_publications([client], *(("n", "chat:a", number) for number in range(21)))
    assert two.listening() == [other]


def test_stopping_node_releases_the_lease(two: TwoHubs) -> None:
    first = two.wait_listening()
    (other,) = (name for name in two.hubs if name != first)
    assert two.hubs[first].terminate() == 0
    try:
        assert two.wait_listening(except_for=first) == other
    finally:
        two.hubs[first].start()


def test_listener_reconnects_after_a_cut_link(two: TwoHubs) -> None:
    clients = two.start_clients("7", "chat:a")
    with two.redis.client() as redis:
        redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")

    def is_received() -> bool:
        numbered(two, 1)
        return publications_of(clients[0]) != []

    wait_until(is_received, why="the node listens again")
    assert len(two.listening()) == 1


def test_lease_names_the_listening_node(two: TwoHubs) -> None:
    name = two.wait_listening()
    with two.redis.client() as client:
        holder = client.get("emitter:{0}:lease:socketio_emitter")
    assert holder.decode().partition(".")[0] == name
