"""A node that is full: probes and publications get through, its clients stay, and refused clients return later."""

from __future__ import annotations

import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

from faults.scene import Scene
from support.network.raw_client import RawClient, RawWebSocket
from support.processes.hub import HubProcess
from support.waiting import wait_until

# One node can serve all clients.
FULL_NODE_OPTIONS = "max_connections = {room}\nreserved_connections = 64\nconnect_timeout_s = 300.0\n"
_SOCKET = "/socket.io/?EIO=4&transport=websocket"
_SILENT_SOCKETS = 200
# Less than half of the nodes' ping timeout.
_PONG_INTERVAL_S = 1.0


class Crowd:
    """Sessions that fill a node and answer its pings, and sockets that never send a byte."""

    def __init__(self, node: HubProcess) -> None:
        self._node = node
        self._websockets: list[RawWebSocket] = []
        self._silent: list[RawClient] = []
        self._left = threading.Event()
        self._ponger = threading.Thread(target=self._send_pongs)

    def __enter__(self) -> Self:
        self._ponger.start()
        while (websocket := RawWebSocket(self._node.port, _SOCKET)).handshake.status == 101:
            self._websockets.append(websocket)
        if websocket.handshake.status != 503:
            raise AssertionError(f"a full node answers {websocket.handshake.status}")
        self._silent += [RawClient(self._node.port) for _ in range(_SILENT_SOCKETS)]
        return self

    def _send_pongs(self) -> None:
        while not self._left.wait(_PONG_INTERVAL_S):
            for websocket in list(self._websockets):
                with suppress(OSError):
                    websocket.send_text("3")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._left.set()
        self._ponger.join()
        for client in (*self._websockets, *self._silent):
            client.socket.close()


def fill_node(scene: Scene) -> None:
    """Sessions of others fill one node, and silent sockets its reserve. The other node ends meanwhile."""
    full, other = scene.nodes
    scene.run_load(5)
    with Crowd(full):
        _check_served(full)
        scene.wait_for_deliveries()
        refused = full.metric("tidings_refused_full_total")
        other.terminate()
        wait_until(lambda: full.metric("tidings_refused_full_total") > refused, why="clients of the other are refused")
        scene.run_load(5)
        _check_served(full)
    scene.wait_for_clients()
    scene.wait_for_deliveries()
    other.start()
    scene.run_load(5)


def _check_served(node: HubProcess) -> None:
    """Probes, metrics and backends are answered."""
    statuses = {path: node.get(path)[0] for path in ("/healthz", "/readyz", "/metrics")}
    if set(statuses.values()) != {200}:
        raise AssertionError(f"a full node answers {statuses}")
    node.publish("load:elsewhere", "e", {"from": "a full node"})
