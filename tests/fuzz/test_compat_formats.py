"""Any message in a compatibility format is decoded, or rejected with a documented error."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidings.errors import CallerError, Unauthorized
from tidings.wire.channels import check_channel, check_event
from tidings.wire.msgpack import pack, unpack
from tidings.wire.payload import encode_data
from tidings_hub.core.compat.channel_mapping import ChannelMapping
from tidings_hub.core.compat.flask_socketio import read_message
from tidings_hub.core.compat.pusher import PusherCredentials, check_body, check_signature, read_batch, read_event
from tidings_hub.core.compat.requests import CommandRequest, PublishRequest, RequestLimits
from tidings_hub.core.compat.socketio_emitter import EmitterChannels, read_emit, read_request

BOUNDS = RequestLimits(data_max_bytes=500, channels_max=5)
RENAMES = ChannelMapping("io", {"order-": "orders:", "u": "user:"})
CHANNELS = EmitterChannels("socket.io", "/")

# One example may take long on a shared machine.

texts = st.one_of(st.text(max_size=12), st.sampled_from(["a", "chat:a", "user:7", "order-1", "hello", "/", ""]))
scalars = st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), texts)


def nested(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves,
        lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
        max_leaves=5,
    )


values = nested(scalars)
packed = nested(st.one_of(scalars, st.binary(max_size=4)))


def like(names: dict[str, st.SearchStrategy[Any]], anything: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """An object that is nearly valid: each name may be missing or have an invalid value."""
    return st.fixed_dictionaries({}, optional={name: st.one_of(right, anything) for name, right in names.items()})


def check(request: PublishRequest | CommandRequest) -> None:
    """Check that the broker and all clients can handle an accepted request."""
    if isinstance(request, CommandRequest):
        assert request.action in {"disconnect", "subscribe", "unsubscribe"}
        assert bool(request.user) != bool(request.connection)
        return
    assert 0 < len(request.channels) <= 100
    assert [check_channel(channel) for channel in request.channels] == list(dict.fromkeys(request.channels))
    assert check_event(request.event)
    assert encode_data(json.loads(request.data_json), max_bytes=500) == request.data_json


def accepted(decode: Callable[[], Sequence[PublishRequest | CommandRequest]]) -> bool:
    """Decode a message; return False if a documented error was raised."""
    try:
        requests = decode()
    except CallerError:
        return False
    for request in requests:
        check(request)
    return True


rooms = st.lists(texts, max_size=6)
packets = like({"type": st.sampled_from([2, 5]), "data": st.lists(packed, max_size=3), "nsp": st.just("/")}, packed)
options = like({"rooms": rooms, "except": st.just([]), "flags": st.just({})}, packed)
emit_channels = st.sampled_from(["socket.io#/#", "socket.io#emitter", "socket.io#/#chat:a#", "socket.io#/#a"])


@given(emit_channels, packets, options)
def test_emits(channel: str, packet: Any, details: Any) -> None:
    message = pack(["emitter", packet, details])
    accepted(lambda: [read_emit(CHANNELS.room(channel), unpack(message), "/", RENAMES, BOUNDS)])


@given(st.one_of(st.binary(max_size=60), packed.map(pack)), st.text(max_size=30))
def test_random_bytes_are_rejected(message: bytes, channel: str) -> None:
    assert not accepted(lambda: [read_emit(CHANNELS.room(channel), unpack(message), "/", RENAMES, BOUNDS)])
    assert not accepted(lambda: read_request(message, RENAMES, BOUNDS))
    assert not accepted(lambda: [read_message(message, RENAMES, BOUNDS)])
    assert not accepted(lambda: [read_event(message, RENAMES, data_max_bytes=500)])
    assert not accepted(lambda: read_batch(message, RENAMES, data_max_bytes=500))


requests = like({"type": st.sampled_from([2, 3, 4]), "opts": like({"rooms": rooms}, values), "rooms": rooms}, values)


@given(requests)
def test_requests(message: Any) -> None:
    accepted(lambda: read_request(json.dumps(message).encode(), RENAMES, BOUNDS))


methods = st.sampled_from(["emit", "disconnect", "enter_room", "leave_room", "close_room", "callback"])
managers = like(
    {"method": methods, "event": texts, "data": st.lists(values, max_size=3), "room": texts, "sid": texts}, values
)


@given(managers)
def test_managers(message: Any) -> None:
    accepted(lambda: [read_message(json.dumps(message).encode(), RENAMES, BOUNDS)])


events = like({"name": texts, "channel": texts, "channels": rooms, "data": values.map(json.dumps)}, values)


@given(events, st.lists(events, max_size=4))
def test_events_and_batches(message: Any, batch: Any) -> None:
    accepted(lambda: [read_event(json.dumps(message).encode(), RENAMES, data_max_bytes=500)])
    accepted(lambda: read_batch(json.dumps({"batch": batch}).encode(), RENAMES, data_max_bytes=500))


queries = st.dictionaries(
    st.sampled_from(["auth_key", "auth_signature", "auth_timestamp", "auth_version", "body_md5", "more"]),
    st.one_of(st.text(max_size=12), st.sampled_from(["1.0", "1", "key"])),
)


@given(queries, st.binary(max_size=10))
def test_unsigned_requests_are_rejected(query: dict[str, str], body: bytes) -> None:
    with pytest.raises(Unauthorized):
        check_signature(PusherCredentials("42", "key", "s" * 20), "/apps/42/events", query, now_s=1.0)
    with pytest.raises(Unauthorized):
        check_body(query, body)


def test_some_examples_are_accepted() -> None:
    """The strategies above produce messages that are close enough to valid ones."""
    message = pack(["emitter", {"type": 2, "data": ["hello"]}, {"rooms": ["a"]}])
    assert accepted(lambda: [read_emit("", unpack(message), "/", RENAMES, BOUNDS)])
    assert accepted(lambda: [read_message(b'{"method":"emit","event":"e","data":[],"room":"a"}', RENAMES, BOUNDS)])
    assert accepted(lambda: [read_event(b'{"name":"e","channel":"a","data":""}', RENAMES, data_max_bytes=500)])
