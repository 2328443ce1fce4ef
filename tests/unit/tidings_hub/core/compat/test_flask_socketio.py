from __future__ import annotations

import json
import pickle
from typing import Any

import pytest

from tidings.errors import BadChannel, BadData, BadEvent, BadRequest, TidingsError, TooLarge
from tidings_hub.core.compat.channel_mapping import ChannelMapping
from tidings_hub.core.compat.flask_socketio import read_message
from tidings_hub.core.compat.requests import CommandRequest, PublishRequest, RequestLimits

LIMITS = RequestLimits(data_max_bytes=200, channels_max=3)
MAPPING = ChannelMapping("io", {"order-": "orders:"})
GOOD: dict[str, Any] = {
    "method": "emit",
    "event": "hello",
    "data": [{"a": 1}],
    "binary": False,
    "namespace": "/",
    "room": "room1",
    "skip_sid": None,
    "callback": None,
    "host_id": "56b1",
}


def parse(message: object) -> PublishRequest | CommandRequest:
    return read_message(message if isinstance(message, bytes) else json.dumps(message).encode(), MAPPING, LIMITS)


def test_emit_becomes_a_publish_request() -> None:
    assert parse(GOOD) == PublishRequest(("io:room1",), "hello", b'{"a":1}')
    assert parse(GOOD | {"room": ["order-1", "io:b"]}) == PublishRequest(("orders:1", "io:b"), "hello", b'{"a":1}')


@pytest.mark.parametrize(
    ("data", "published"),
    [
        ([], b"null"),
        ([None], b"null"),
        ([[1, 2]], b"[1,2]"),
        ([1, 2], b"[1,2]"),
        ({"old": 1}, b'{"old":1}'),
        ("x", b'"x"'),
    ],
)
def test_arguments_become_data(data: object, published: bytes) -> None:
    request = parse(GOOD | {"data": data})
    assert isinstance(request, PublishRequest)
    assert request.data_json == published


def test_commands_for_users_and_one_connection() -> None:
    message = {"sid": "user:7", "namespace": "/", "host_id": "x"}
    assert parse(message | {"method": "disconnect"}) == CommandRequest("disconnect", user="7")
    assert parse(message | {"method": "disconnect", "sid": "9f01"}) == CommandRequest("disconnect", connection="9f01")
    assert parse(message | {"method": "enter_room", "room": "a"}) == CommandRequest(
        "subscribe", user="7", channel="io:a"
    )
    assert parse(message | {"method": "leave_room", "room": "a"}) == CommandRequest(
        "unsubscribe", user="7", channel="io:a"
    )


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (BadChannel, GOOD | {"room": None}),
        (BadChannel, GOOD | {"room": ""}),
        (BadChannel, GOOD | {"room": []}),
        (BadChannel, GOOD | {"room": [""]}),
        (BadChannel, GOOD | {"room": ["a", None]}),
        (BadChannel, GOOD | {"room": {"a": 1}}),
        (BadChannel, {name: value for name, value in GOOD.items() if name != "room"}),
        (TooLarge, GOOD | {"room": ["a", "b", "c", "d"]}),
        (BadRequest, GOOD | {"namespace": "/admin"}),
        (BadRequest, GOOD | {"skip_sid": "abc"}),
        (BadRequest, GOOD | {"callback": ["a", "/", 1]}),
        (BadData, GOOD | {"binary": True, "data": [[{"_placeholder": True, "num": 0}], "AQI="]}),
        (BadData, GOOD | {"data": [json.loads("[" * 70 + "]" * 70)]}),
        (TooLarge, GOOD | {"data": ["x" * 200]}),
        (BadEvent, GOOD | {"event": "connect"}),
        (BadEvent, GOOD | {"event": None}),
        (BadRequest, GOOD | {"method": "callback"}),
        (BadRequest, GOOD | {"method": "close_room"}),
        (BadRequest, GOOD | {"method": "unknown", "sid": "user:7"}),
        (BadRequest, GOOD | {"method": ["emit"]}),
        (BadRequest, {"method": "disconnect", "sid": None}),
        (BadRequest, {"method": "disconnect"}),
        (BadChannel, {"method": "disconnect", "sid": "user:"}),
        (BadChannel, {"method": "enter_room", "sid": "9f01", "room": "a"}),
        (BadChannel, {"method": "enter_room", "sid": "user:7", "room": None}),
        (BadData, pickle.dumps(GOOD)),
        (BadRequest, pickle.dumps(GOOD, protocol=0)),
        (BadRequest, json.dumps(GOOD | {"data": [float("nan")]}).encode()),
        (BadRequest, b'{"method":"emit","method":"emit"}'),
        (BadRequest, b'"a string with method"'),
        (BadRequest, b'["method"]'),
        (BadRequest, b"\xff\xfe"),
        (BadRequest, b"[" * 100_000),
        (BadRequest, b""),
    ],
)
def test_unsupported_message_is_an_error(kind: type[TidingsError], message: object) -> None:
    with pytest.raises(kind):
        parse(message)
