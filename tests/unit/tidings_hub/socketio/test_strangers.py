"""What a client may send before its CONNECT is accepted."""

from __future__ import annotations

import json
import tracemalloc

import pytest

from tidings.errors import BadPacket
from tidings_hub.socketio.client import Client
from tidings_hub.socketio.packet import Packet
from tidings_hub.socketio.packet_inbox import PacketInbox
from unit.tidings_hub.socketio.test_connect import Recorder, inbox_bounds


def new_client() -> Client:
    return Client(Recorder())


def read(client: Client, data: str | bytes) -> object:
    return client.read(data, max_attachment_bytes=65_536)


@pytest.mark.parametrize(
    "text", ['2["event"]', '2/admin,["event"]', "30[]", '51-["event",{"_placeholder":true,"num":0}]']
)
def test_packet_before_connect_is_rejected(text: str) -> None:
    client = new_client()
    with pytest.raises(BadPacket):
        read(client, text)
    # No attachment would be collected.
    assert client.partial is None


@pytest.mark.parametrize("text", ["0", '0{"token":"t","channels":["a:1","b:2"]}', "0/admin,", "1"])
def test_connect_and_disconnect_are_accepted(text: str) -> None:
    assert read(new_client(), text) is not None


def test_packet_behind_a_connect_that_is_being_handled_is_accepted() -> None:
    client = new_client()
    client.inbox = PacketInbox(Packet(encoded_packet="0"), inbox_bounds())
    assert read(client, '2["event"]') is not None


def test_packets_of_an_authenticated_client_are_accepted() -> None:
    client = new_client()
    client.connection.trust()
    assert read(client, "2" + json.dumps(["event", [[]] * 20_000])) is not None
    assert read(client, '51-["event",{"_placeholder":true,"num":0}]') is None
    assert read(client, b"x") is not None


@pytest.mark.parametrize("item", ["[]", "{}", '""', "1000", '{"a":[]}'])
def test_connect_of_many_items_is_rejected_before_they_use_memory(item: str) -> None:
    client = new_client()
    text = f'0{{"auth":[{",".join([item] * (60_000 // (len(item) + 1)))}]}}'
    tracemalloc.start()
    with pytest.raises(BadPacket):
        read(client, text)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 10_000


def test_connect_with_the_most_channels_of_the_longest_names_is_accepted() -> None:
    channels = [f"orders:{number:0193d}" for number in range(128)]
    assert read(new_client(), "0" + json.dumps({"token": "t" * 16_000, "channels": channels})) is not None
