"""What we override or rely on in python-socketio has not changed under us."""

from __future__ import annotations

import hashlib
import inspect
from importlib.metadata import version

import pytest
from engineio.base_server import BaseServer as EngineBase
from socketio import Manager, Server
from socketio.base_manager import BaseManager
from socketio.base_server import BaseServer
from socketio.packet import Packet

# When this fails after an upgrade: read the diff of that method, adapt ours, then put the new hash here.
HASHES = {
    BaseServer.__init__: "6b998e091b34a563",
    Server._handle_connect: "1b0ba130a57d9320",
    Server._handle_disconnect: "fb93d61de8cb8c31",
    Server._handle_event: "3f64c030f25eb785",
    Server._handle_event_internal: "37e1c84a69747f32",
    Server._handle_ack: "7f114abcf99ff82b",
    Server._trigger_event: "836cb0c8d232fd2d",
    Server._handle_eio_connect: "4be135c046ed6bcc",
    Server._handle_eio_message: "65f309c138d634eb",
    Server._handle_eio_disconnect: "5c0002fcdb35a127",
    Server._send_packet: "3289b949be8cbb76",
    Server._send_eio_packet: "5fa452fb118c3565",
    Server._engineio_server_class: "8d7e7034b2457036",
    Server.disconnect: "a348aff17b8e892e",
    BaseManager: "b393b4c05dbd88e2",
    Manager: "cfeabf92435f1208",
    Packet: "e1660ba64e4e31fc",
    EngineBase.reason: "bbbc90e18d26c2df",
}


def test_the_versions_are_the_pinned_ones() -> None:
    assert version("python-socketio") == "5.18.1"
    assert version("python-engineio") == "4.15.1"


@pytest.mark.parametrize("definition", HASHES, ids=lambda definition: definition.__qualname__)
def test_upstream_source_is_unchanged(definition: object) -> None:
    source = inspect.getsource(definition)  # type: ignore[arg-type]
    assert hashlib.sha256(source.encode()).hexdigest()[:16] == HASHES[definition]  # type: ignore[index]


def test_upstream_calls_nothing_of_its_engine_that_the_adapter_lacks() -> None:
    import re

    from tidings_hub.socketio.engineio_adapter import EngineioAdapter

    source = inspect.getsource(Server) + inspect.getsource(BaseServer)
    used = set(re.findall(r"self\.eio\.([a-z_]+)", source))
    assert {name for name in used if not hasattr(EngineioAdapter(), name)} == set()
