"""What a node that receives more than it can handle looks at first. Only the order counts, not the time."""

from __future__ import annotations

import os
import signal

import pytest

from support.network.raw_client import RawClient, RawWebSocket, open_websocket
from support.processes.engine import EngineProcess

# More than the pump fetches at once. Each blocks for longer than a turn of the pump, so a turn ends after one batch.
_FLOODERS = 96
_BLOCK = "4block 0.02"
_NO_PINGS = ("--ping_interval_ms=60000", "--ping_timeout_ms=60000")


def blocks_seen(observer: RawWebSocket) -> int:
    """How many messages of the flood the node has handled. It notifies all clients before each."""
    received = observer.buffer
    observer.socket.setblocking(False)
    try:
        while data := observer.socket.recv(65_536):
            received += data
    except BlockingIOError:
        return received.count(b"blocking")
    raise AssertionError("the node closed the connection")


@pytest.mark.parametrize("is_kept", [False, True], ids=["new connection", "kept connection"])
def test_probe_does_not_wait_for_all_clients_that_flood(is_kept: bool) -> None:
    with EngineProcess(*_NO_PINGS) as engine:
        observer, kept_client = open_websocket(engine.port), RawClient(engine.port)
        kept_client.send_request("GET", "/healthz")
        assert kept_client.response().status == 200
        flooders = [open_websocket(engine.port) for _ in range(_FLOODERS)]
        # All of this arrives before the node looks again.
        os.kill(engine.pid, signal.SIGSTOP)
        for flooder in flooders:
            flooder.send_text(_BLOCK)
        probe = kept_client if is_kept else RawClient(engine.port)
        probe.send_request("GET", "/healthz")
        os.kill(engine.pid, signal.SIGCONT)
        assert probe.response().status == 200
        assert blocks_seen(observer) <= _FLOODERS // 2


def test_other_requests_do_not_gain_priority() -> None:
    with EngineProcess(*_NO_PINGS) as engine:
        observer, page = open_websocket(engine.port), RawClient(engine.port)
        page.send_request("GET", "/page")
        assert page.response().status == 200
        flooders = [open_websocket(engine.port) for _ in range(_FLOODERS)]
        os.kill(engine.pid, signal.SIGSTOP)
        for flooder in flooders:
            flooder.send_text(_BLOCK)
        page.send_request("GET", "/page")
        os.kill(engine.pid, signal.SIGCONT)
        assert page.response().status == 200
        assert blocks_seen(observer) == _FLOODERS
