"""Backends with python-socketio's write-only managers and with Flask-SocketIO: one of two hubs publishes."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from e2e.compatibility.listening import TwoHubs, two_hubs, wait_publications
from support.processes.hub import environment

INGRESS = """
[ingress.flask_socketio]
prefixes = { "order-" = "orders:" }
"""
# A backend process without tidings.
BACKEND = """
import sys
url, way = sys.argv[1:]
if way == "flask":
    from flask_socketio import SocketIO
    emitter = SocketIO(message_queue=url)
else:
    import socketio
    emitter = socketio.RedisManager(url, write_only=True)
"""


@pytest.fixture(scope="module")
def nodes(shared_redis: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoHubs]:
    with two_hubs(shared_redis, tmp_path_factory.mktemp("manager"), "manager:", INGRESS) as two:
        yield two


@pytest.fixture
def two(nodes: TwoHubs) -> Iterator[TwoHubs]:
    yield nodes
    nodes.stop_clients()


def backend(two: TwoHubs, way: str, *lines: str) -> None:
    """Run these lines in a process that has an `emitter`."""
    program = BACKEND + "\n".join(lines)
    result = subprocess.run(
        [sys.executable, "-c", program, two.redis.url, way],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def publish(two: TwoHubs, *messages: Any) -> None:
    """Publish messages on Redis directly, as any program could."""
    with two.redis.client() as redis:
        for message in messages:
            redis.publish("socketio", message if isinstance(message, bytes) else json.dumps(message))


def test_write_only_manager_publishes(two: TwoHubs) -> None:
    clients = two.start_clients("7", "chat:a", "orders:1")
    backend(
        two,
        "manager",
        "emitter.emit('one', {'n': 1, 't': 'ü'}, room='chat:a')",
        "emitter.emit('two', 2, to='order-1')",
        "emitter.emit('three', ('a', [1]), room='chat:a')",
        "emitter.emit('four', None, room=['chat:a', 'order-1'])",
        "emitter.emit('five', [1], room='user:7')",
        "for _ in range(2): emitter.emit('twin', {}, room='chat:a')",
    )
    wait_publications(
        clients,
        ("one", "chat:a", {"n": 1, "t": "ü"}),
        ("two", "orders:1", 2),
        ("three", "chat:a", ["a", [1]]),
        ("four", "chat:a", None),
        ("four", "orders:1", None),
        ("five", "user:7", [1]),
        ("twin", "chat:a", {}),
        ("twin", "chat:a", {}),
    )


def test_flask_socketio_publishes(two: TwoHubs) -> None:
    clients = two.start_clients("7", "chat:a")
    backend(
        two,
        "flask",
        "emitter.emit('one', {'n': 1}, to='chat:a')",
        "emitter.emit('two', (1, 2), to='chat:a')",
        "emitter.send('text', to='chat:a')",
        "emitter.send({'j': 1}, json=True, to='chat:a')",
    )
    wait_publications(
        clients,
        ("one", "chat:a", {"n": 1}),
        ("two", "chat:a", [1, 2]),
        ("message", "chat:a", "text"),
        ("json", "chat:a", {"j": 1}),
    )


def test_commands_for_a_user_are_applied(two: TwoHubs) -> None:
    clients = two.start_clients("7", "chat:a")
    bystanders = two.start_clients("8", "chat:a")
    backend(two, "manager", "emitter.enter_room('user:7', '/', 'chat:b')", "emitter.emit('joined', 1, room='chat:b')")
    wait_publications(clients, ("joined", "chat:b", 1))
    backend(
        two,
        "manager",
        "emitter.leave_room('user:7', '/', 'chat:b')",
        "emitter.emit('left', 2, room='chat:b')",
        "emitter.emit('still', 3, room='chat:a')",
    )
    wait_publications(clients, ("joined", "chat:b", 1), ("still", "chat:a", 3))
    # A write-only manager of version 5.18 fails in its own `disconnect` before it publishes; others do not.
    connection_id = bystanders[0].records_of("ready")[0]["connection"]
    publish(
        two,
        *({"method": "disconnect", "sid": sid, "namespace": "/", "host_id": "x"} for sid in ("user:7", connection_id)),
    )
    for client in [*clients, bystanders[0]]:
        client.wait(lambda client: len(client.records_of("close")) == 1, why="the client is disconnected")
    assert bystanders[1].records_of("close") == []


def test_invalid_messages_are_counted_and_skipped(two: TwoHubs) -> None:
    clients = two.start_clients("7", "chat:a")
    before = two.count("refused_total")
    good = {"method": "emit", "event": "bad", "data": [1], "namespace": "/", "room": "chat:a", "callback": None}
    poison: list[Any] = [
        b"",
        b"not json",
        b'"method"',
        b'["method"]',
        b"[" * 100_000,
        b"x" * 300_000,
        pickle.dumps(good),
        {"method": "close_room", "room": "chat:a"},
        {"method": "callback", "sid": "a", "id": 1, "args": []},
        good | {"room": ""},
        good | {"room": "nowhere:a"},
        good | {"data": ["x" * 3000]},
        good | {"event": "tidings:close"},
    ]
    publish(two, *poison)
    backend(
        two,
        "manager",
        "emitter.emit('everyone', 1)",
        "emitter.emit('everyone', 1, room='')",
        "emitter.emit('nan', float('nan'), room='chat:a')",
        "emitter.emit('bytes', b'12', room='chat:a')",
        "emitter.emit('not me', 1, room='chat:a', skip_sid='abc')",
        "emitter.emit('elsewhere', 1, room='chat:a', namespace='/admin')",
        "emitter.emit('good', 1, room='chat:a')",
    )
    wait_publications(clients, ("good", "chat:a", 1))
    assert two.count("refused_total") == before + len(poison) + 6
    for hub in two.hubs.values():
        assert hub.log.read_text().count("was rejected") <= 2


def test_another_node_takes_over(two: TwoHubs) -> None:
    first = two.wait_listening()
    (survivor,) = (name for name in two.hubs if name != first)
    client = two.start_clients("7", "chat:a")[list(two.hubs).index(survivor)]
    two.hubs[first].stop()
    try:
        assert two.wait_listening(except_for=first) == survivor
        backend(two, "manager", "emitter.emit('on', 1, room='chat:a')")
        wait_publications([client], ("on", "chat:a", 1))
    finally:
        two.hubs[first].start()
