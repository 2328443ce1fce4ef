"""Every dialect of Socket.IO's Redis emitters, byte by byte where a library writes it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tidings.errors import BadChannel, BadData, BadEvent, BadRequest, TidingsError, TooLarge
from tidings.wire.msgpack import pack, unpack
from tidings_hub.core.compat.channel_mapping import ChannelMapping
from tidings_hub.core.compat.requests import CommandRequest, PublishRequest, RequestLimits
from tidings_hub.core.compat.socketio_emitter import EmitterChannels, read_emit, read_request

LIMITS = RequestLimits(data_max_bytes=200, channels_max=3)
MAPPING = ChannelMapping("io", {"order-": "orders:"})
CHANNELS = EmitterChannels("socket.io", "/")
PACKET = {"type": 2, "data": ["hello", {"a": 1}], "nsp": "/"}


def emit(
    packet: object = PACKET,
    options: object = None,
    *,
    channel: str = "socket.io#/#",
    parts: list[Any] | None = None,
    nsp: str = "/",
) -> PublishRequest:
    options = {"rooms": ["io:a"]} if options is None else options
    message = pack(["emitter", packet, options] if parts is None else parts)
    return read_emit(CHANNELS.room(channel), unpack(message), nsp, MAPPING, LIMITS)


def test_message_of_the_npm_emitter_is_read() -> None:
    message = bytes.fromhex(
        "93 a7 656d6974746572 83 a4 74797065 02 a4 64617461 92 a5 68656c6c6f 81 a1 61 01 a3 6e7370 a1 2f"
        "83 a5 726f6f6d73 91 a5 726f6f6d31 a5 666c616773 80 a6 657863657074 90"
    )
    room = CHANNELS.room("socket.io#/#room1#")
    assert read_emit(room, unpack(message), "/", MAPPING, LIMITS) == PublishRequest(("io:room1",), "hello", b'{"a":1}')


@pytest.mark.parametrize(
    ("channel", "room"),
    [
        ("socket.io#/#", ""),
        ("socket.io#/#a:1#", "a:1"),
        ("socket.io#/#a:1", "a:1"),
        ("socket.io#/##", ""),
        ("socket.io#emitter", ""),
    ],
)
def test_room_of_a_channel(channel: str, room: str) -> None:
    assert CHANNELS.room(channel) == room


def test_patterns_of_subscriptions() -> None:
    assert EmitterChannels("k", "/admin").patterns() == [b"k#/admin#*", b"k#emitter", b"k-request#/admin#"]
    assert CHANNELS.is_request("socket.io-request#/#")
    assert not CHANNELS.is_request("socket.io#/#-request#")


@pytest.mark.parametrize(
    "options",
    [
        {"rooms": ["io:a", "order-7"], "flags": {}, "except": []},
        {"rooms": ["io:a", "order-7"], "flags": {"volatile": True, "compress": False}},
        {"rooms": ["io:a", "order-7", "io:a"], "flags": "", "except": ""},
        {"rooms": ["io:a", "order-7"], "flags": [], "except": None},
    ],
)
def test_options_of_all_emitters(options: dict[str, Any]) -> None:
    assert emit(options=options).channels == ("io:a", "orders:7")


def test_old_emitters_leave_out_the_uid_and_the_namespace() -> None:
    packet = {"type": 2, "data": ["hello", {"a": 1}]}
    published = emit(channel="socket.io#emitter", parts=[packet, {"rooms": ["a"], "flags": []}])
    assert published == PublishRequest(("io:a",), "hello", b'{"a":1}')


def test_message_repeated_for_each_room_is_published_once_per_room() -> None:
    options = {"rooms": ["a", "b", "c"], "flags": ""}
    channels = [emit(options=options, channel=f"socket.io#/#{room}#").channels for room in "abc"]
    assert channels == [("io:a",), ("io:b",), ("io:c",)]


@pytest.mark.parametrize(
    ("arguments", "data"),
    [([], b"null"), ([None], b"null"), ([7], b"7"), ([[1]], b"[1]"), ([1, "b"], b'[1,"b"]'), (["ü"], '"ü"'.encode())],
)
def test_arguments_become_data(arguments: list[Any], data: bytes) -> None:
    assert emit({**PACKET, "data": ["hello", *arguments]}).data_json == data


def test_room_may_be_a_number() -> None:
    assert emit(options={"rooms": [42]}).channels == ("io:42",)
    assert emit(options={"rooms": [42]}, channel="socket.io#/#42#").channels == ("io:42",)


def test_single_room_may_be_text() -> None:
    """As the emitter of Java writes it."""
    assert emit(options={"rooms": "a"}).channels == ("io:a",)
    assert emit(options={"rooms": "a"}, channel="socket.io#/#a#").channels == ("io:a",)


@pytest.mark.parametrize("rooms", [[], "", None, {}, 0, False])
def test_emit_to_everyone_is_rejected(rooms: object) -> None:
    with pytest.raises(BadChannel, match="everyone"):
        emit(options={"rooms": rooms})
    with pytest.raises(BadChannel, match="everyone"):
        emit(options={})


@pytest.mark.parametrize(
    ("kind", "changed"),
    [
        (BadChannel, {"options": {"rooms": [""]}}),
        (BadChannel, {"options": {"rooms": ["a", None]}}),
        (BadChannel, {"options": {"rooms": [True]}}),
        (BadChannel, {"options": {"rooms": [["a"]]}}),
        (BadChannel, {"options": {"rooms": ["a#b"]}}),
        (BadChannel, {"options": {"rooms": [b"a"]}}),
        (BadRequest, {"options": {"rooms": "b"}, "channel": "socket.io#/#a#"}),
        (BadChannel, {"options": {"rooms": "a#b"}}),
        (BadRequest, {"options": {"rooms": {"a": 1}}}),
        (TooLarge, {"options": {"rooms": ["a", "b", "c", "d"]}}),
        (BadRequest, {"options": {"rooms": ["a"], "except": ["b"]}}),
        (BadRequest, {"options": {"rooms": ["b"]}, "channel": "socket.io#/#a#"}),
        (BadRequest, {"options": {"rooms": []}, "channel": "socket.io#/#a#"}),
        (BadRequest, {"options": {}, "channel": "socket.io#/#a#"}),
        (BadRequest, {"packet": {**PACKET, "type": 3}}),
        (BadRequest, {"packet": {**PACKET, "type": [2]}}),
        (BadRequest, {"packet": {**PACKET, "nsp": "/admin"}}),
        (BadRequest, {"nsp": "/admin"}),
        (BadRequest, {"packet": {**PACKET, "data": []}}),
        (BadRequest, {"packet": {**PACKET, "data": "hello"}}),
        (BadRequest, {"packet": {"type": 2}}),
        (BadEvent, {"packet": {**PACKET, "data": ["disconnect"]}}),
        (BadEvent, {"packet": {**PACKET, "data": ["tidings:close", {}]}}),
        (BadEvent, {"packet": {**PACKET, "data": [{"a": 1}]}}),
        (BadEvent, {"packet": {**PACKET, "data": [b"hello"]}}),
        (BadData, {"packet": {**PACKET, "data": ["hello", float("nan")]}}),
        (BadData, {"packet": {**PACKET, "data": ["hello", [float("inf")]]}}),
        (BadData, {"packet": {**PACKET, "data": ["hello", b"\x01\x02"]}}),
        (BadData, {"packet": {**PACKET, "type": 5, "data": ["hello", {"file": b"\x01"}]}}),
        (BadData, {"packet": {**PACKET, "data": ["hello", {b"a": 1}]}}),
        (TooLarge, {"packet": {**PACKET, "data": ["hello", "x" * 200]}}),
        (BadRequest, {"parts": []}),
        (BadRequest, {"parts": [1, 2, 3]}),
        (BadRequest, {"parts": ["emitter", PACKET]}),
        (BadRequest, {"parts": ["emitter", PACKET, {"rooms": ["a"]}, 4]}),
        (BadRequest, {"parts": ["emitter", PACKET, ["a"]]}),
    ],
)
def test_invalid_publication_is_an_error(kind: type[TidingsError], changed: dict[str, Any]) -> None:
    with pytest.raises(kind):
        emit(**changed)


@pytest.mark.parametrize("place", ["rooms", "a room", "event", "data", "except", "type", "nsp"])
@pytest.mark.parametrize("channel", ["socket.io#/#", "socket.io#/#io:a#"])
def test_deepest_value_of_msgpack_is_rejected_without_another_error(place: str, channel: str) -> None:
    # Lists in lists, as deep as msgpack reads them. Python's `str` of such a value raises RecursionError.
    deepest = b"\x91" * 1_018 + b"\x90"
    places: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "rooms": ({}, {"rooms": "deep"}),
        "a room": ({}, {"rooms": ["io:a", "deep"]}),
        "event": ({"data": ["deep", 1]}, {}),
        "data": ({"data": ["hello", "deep"]}, {}),
        "except": ({}, {"except": "deep"}),
        "type": ({"type": "deep"}, {}),
        "nsp": ({"nsp": "deep"}, {}),
    }
    packet, options = places[place]
    message = pack(["emitter", {**PACKET, **packet}, {"rooms": ["io:a"], **options}])
    unpacked = unpack(message.replace(pack("deep"), deepest))
    try:
        published = read_emit(CHANNELS.room(channel), unpacked, "/", MAPPING, LIMITS)
    except TidingsError:
        return
    # The other room is that of the channel.
    assert (place, published.channels) == ("a room", ("io:a",))


def request(message: object) -> list[CommandRequest]:
    return read_request(message if isinstance(message, bytes) else json.dumps(message).encode(), MAPPING, LIMITS)


def test_requests_for_users_become_commands() -> None:
    rooms = {"rooms": ["user:7"], "except": []}
    assert request({"type": 4, "opts": rooms, "close": True}) == [CommandRequest("disconnect", user="7")]
    assert request({"type": 2, "opts": rooms, "rooms": ["order-1", "io:b"]}) == [
        CommandRequest("subscribe", user="7", channel="orders:1"),
        CommandRequest("subscribe", user="7", channel="io:b"),
    ]
    assert request({"type": 3, "opts": {"rooms": ["user:7", "user:8"]}, "rooms": ["x"]}) == [
        CommandRequest("unsubscribe", user="7", channel="io:x"),
        CommandRequest("unsubscribe", user="8", channel="io:x"),
    ]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (BadChannel, {"type": 4, "opts": {"rooms": []}, "close": True}),
        (BadChannel, {"type": 4, "opts": {}}),
        (BadChannel, {"type": 4, "opts": {"rooms": ["io:everyone"]}}),
        (BadChannel, {"type": 4, "opts": {"rooms": ["user:7", "io:everyone"]}}),
        (BadChannel, {"type": 4, "opts": {"rooms": ["user:"]}}),
        (BadRequest, {"type": 4, "opts": {"rooms": ["user:7"], "except": ["x"]}}),
        (BadChannel, {"type": 2, "opts": {"rooms": ["user:7"]}, "rooms": []}),
        (BadChannel, {"type": 2, "opts": {"rooms": ["user:7"]}}),
        (BadChannel, {"type": 2, "opts": {"rooms": ["user:7"]}, "rooms": ["a b"]}),
        (TooLarge, {"type": 2, "opts": {"rooms": ["user:7", "user:8"]}, "rooms": ["a", "b"]}),
        (BadRequest, {"uid": "emitter", "type": 6, "data": ["ping", 42]}),
        (BadRequest, {"type": 5, "opts": {"rooms": ["user:7"]}}),
        (BadRequest, {"type": True, "opts": {"rooms": ["user:7"]}}),
        (BadRequest, {"type": [4], "opts": {"rooms": ["user:7"]}}),
        (BadRequest, {"type": 4, "sid": "abc"}),
        (BadRequest, []),
        (BadRequest, b"\x93\x01\x02\x03"),
        (BadRequest, b'{"type": NaN}'),
        (BadRequest, b"[" * 100_000),
    ],
)
def test_requests_that_are_not_for_users_are_rejected(kind: type[TidingsError], message: object) -> None:
    with pytest.raises(kind):
        request(message)
