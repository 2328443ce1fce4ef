"""Clients whose CONNECT the network delays: they did nothing wrong, so they return."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.network.proxy import Proxy
from support.processes.client import ClientProcess
from support.processes.hub import HubProcess, token
from support.waiting import wait_until


@pytest.mark.parametrize("kind", ["sdk", "stock", "python-websocket"])
def test_client_returns_after_the_network_delayed_its_connect(
    tmp_path: Path, clients: list[ClientProcess], kind: str
) -> None:
    hub = HubProcess(tmp_path, extra="connect_timeout_s = 0.5\nping_interval_s = 2.0\n").start()
    network = Proxy(hub.port, plain=True)
    try:
        network.hold_frames()
        text = token("u1", "orders:1")
        options = {"tokens": [text], "transports": ["websocket"]} if kind in {"sdk", "stock"} else {}
        client = ClientProcess(kind, f"http://127.0.0.1:{network.port}", token=text, channels=["orders:1"], **options)
        clients.append(client)
        wait_until(lambda: hub.metric("tidings_closed_connect_timeout_total") == 1, why="the hub closes the client")
        network.forward_frames()
        client.wait_ready()
    finally:
        network.close()
        hub.stop()
