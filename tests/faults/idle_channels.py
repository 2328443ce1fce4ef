"""Many channels on each node, and a link to Redis that is cut again and again."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from faults.scene import SETTLED_S, Scene
from support.processes.hub import HubProcess, token
from support.waiting import wait_until

# The busy channels of the load do not all fit into the first step, and the idle ones make several more.
NODE_OPTIONS = "repair_first = 50\n"
_PER_STREAM = 100
_FULL = 20_000
_SHORT = 4_000
_CUTS = 6


def _open_stream(node: HubProcess, first: int) -> socket.socket:
    """An event stream with `_PER_STREAM` idle channels. Nothing is ever read from it after its head."""
    names = [f"load:idle-{number}" for number in range(first, first + _PER_STREAM)]
    stream = socket.create_connection(("127.0.0.1", node.port), timeout=SETTLED_S)
    bearer = token(f"idle-{first}", "load:*")
    head = f"GET /sse?channels={','.join(names)} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {bearer}\r\n\r\n"
    stream.sendall(head.encode())
    start = stream.recv(65_536)
    if not start.startswith(b"HTTP/1.1 200"):
        stream.close()
        raise AssertionError(f"an event stream was refused: {start[:300]!r}")
    return stream


@contextmanager
def idle_channels(scene: Scene, count: int) -> Iterator[None]:
    """`count` more channels on each node, without publications."""
    with ExitStack() as streams:
        for node in scene.nodes:
            for first in range(0, count, _PER_STREAM):
                streams.enter_context(_open_stream(node, first))
            wait_until(lambda node=node: node.metric("tidings_broker_channels") > count, within_s=SETTLED_S)
        yield


def cut_many_channels(scene: Scene) -> None:
    """Cut the links of both nodes while they have many channels, also while they repair them."""
    with idle_channels(scene, _FULL if scene.load.length >= 1 else _SHORT):
        for turn in range(_CUTS):
            scene.run_load(4)
            scene.proxies[turn % 2].cut()
            scene.wait_for_deliveries()
        for proxy in scene.proxies:
            proxy.cut()
        scene.wait_for_nodes()
        scene.wait_for_deliveries()
        for node in scene.nodes:
            wait_until(
                lambda node=node: node.metric("tidings_broker_channels_unverified") == 0,
                within_s=SETTLED_S,
                why="every channel is repaired",
            )
