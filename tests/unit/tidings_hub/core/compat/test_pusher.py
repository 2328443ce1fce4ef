from __future__ import annotations

import hmac
import json
from hashlib import md5, sha256
from typing import Any

import pytest

from tidings.errors import BadChannel, BadData, BadEvent, BadRequest, TidingsError, TooLarge, Unauthorized
from tidings_hub.core.compat.channel_mapping import ChannelMapping
from tidings_hub.core.compat.pusher import PusherCredentials, check_body, check_signature, read_batch, read_event
from tidings_hub.core.compat.requests import PublishRequest

APP = PusherCredentials("42", "the-key", "7ad3773142a6692b25b8")
PATH = "/apps/42/events"
MAPPING = ChannelMapping("pusher", {"private-orders-": "orders:"})
NOW_S = 1_795_340_415.0


def signed(body: bytes, *, app: PusherCredentials = APP, path: str = PATH, **changed: str) -> dict[str, str]:
    query = {
        "auth_key": app.key,
        "auth_timestamp": str(int(NOW_S)),
        "auth_version": "1.0",
        "body_md5": md5(body).hexdigest(),
        **changed,
    }
    text = f"POST\n{path}\n" + "&".join(f"{name}={query[name]}" for name in sorted(query))
    return query | {"auth_signature": hmac.new(app.secret.encode(), text.encode(), sha256).hexdigest()}


def test_example_of_the_pusher_documentation() -> None:
    # pusher.com/docs/channels/library_auth_reference/rest-api, "worked authentication example".
    app = PusherCredentials("3", "278d425bdf160c739803", "7ad3773142a6692b25b8")
    body = b'{"name":"foo","channels":["project-3"],"data":"{\\"some\\":\\"data\\"}"}'
    query = {
        "auth_key": "278d425bdf160c739803",
        "auth_timestamp": "1353088179",
        "auth_version": "1.0",
        "body_md5": "ec365a775a4cd0599faeb73354201b6f",
        "auth_signature": "da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c",
    }
    check_signature(app, "/apps/3/events", query, now_s=1_353_088_179)
    check_body(query, body)
    assert read_event(body, MAPPING, data_max_bytes=100) == PublishRequest(
        ("pusher:project-3",), "foo", b'{"some":"data"}'
    )


@pytest.mark.parametrize("late_s", [-600, 0, 600])
def test_valid_signature_is_accepted_for_ten_minutes(late_s: int) -> None:
    check_signature(APP, PATH, signed(b"x"), now_s=NOW_S + late_s)


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ({}, "signature"),
        (signed(b"x") | {"auth_signature": ""}, "signature"),
        (signed(b"x") | {"auth_signature": "\ud800é"}, "signature"),
        (signed(b"x") | {"auth_signature": signed(b"y")["auth_signature"]}, "signature"),
        (signed(b"x") | {"body_md5": md5(b"y").hexdigest()}, "signature"),
        (signed(b"x") | {"more": "1"}, "signature"),
        (signed(b"x", app=PusherCredentials("42", "other", APP.secret)), "signature"),
        (signed(b"x", app=PusherCredentials("42", APP.key, "other")), "signature"),
        (signed(b"x", path="/apps/43/events"), "signature"),
        (signed(b"x", auth_version="2.0"), "auth_version"),
        (signed(b"x", auth_timestamp=str(int(NOW_S) - 601)), "auth_timestamp"),
        (signed(b"x", auth_timestamp=str(int(NOW_S) + 601)), "auth_timestamp"),
        (signed(b"x", auth_timestamp="-1"), "auth_timestamp"),
        (signed(b"x", auth_timestamp="now"), "auth_timestamp"),
        (signed(b"x", auth_timestamp="9" * 5000), "auth_timestamp"),
        (signed(b"x", auth_timestamp="\u0661"), "auth_timestamp"),
    ],
)
def test_invalid_signature_is_unauthorized_without_a_secret_in_the_message(query: dict[str, str], reason: str) -> None:
    with pytest.raises(Unauthorized, match=reason) as caught:
        check_signature(APP, PATH, query, now_s=NOW_S)
    assert APP.secret not in str(caught.value) + repr(APP)
    assert signed(b"x")["auth_signature"] not in str(caught.value)


def test_a_body_that_was_not_signed_is_unauthorized() -> None:
    check_body(signed(b"x"), b"x")
    for query in (signed(b"y"), {}):
        with pytest.raises(Unauthorized):
            check_body(query, b"x")


def event(**fields: Any) -> PublishRequest:
    return read_event(
        json.dumps({"name": "e", "channel": "c", "data": "1"} | fields).encode(), MAPPING, data_max_bytes=99
    )


@pytest.mark.parametrize(
    ("data", "published"),
    [
        ('{"a": 1}', b'{"a":1}'),
        ("[1, 2]", b"[1,2]"),
        ('"text"', b'"text"'),
        ("7", b"7"),
        ("null", b"null"),
        ("hello", b'"hello"'),
        ("", b'""'),
        ("NaN", b'"NaN"'),
        ("{not json", b'"{not json"'),
        ("\x07bell", b'"\\u0007bell"'),
        ('{"price": 1.10, "n": 12345678901234567890}', b'{"price":1.1,"n":12345678901234567890}'),
    ],
)
def test_data_is_decoded_as_json_or_stays_text(data: str, published: bytes) -> None:
    assert event(data=data).data_json == published


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"data": '{"price": NaN}'}, BadData),
        ({"data": "[Infinity]"}, BadData),
        ({"data": '{"a": 1, "a": 2}'}, BadData),
        ({"data": "[" * 100_000}, BadData),
        ({"data": "[" * 66 + "]" * 66}, TooLarge),
        ({"data": "x" * 100}, TooLarge),
        ({"data": {"a": 1}}, BadData),
        ({"data": None}, BadData),
        ({"name": ""}, BadEvent),
        ({"name": None}, BadEvent),
        ({"name": "connect"}, BadEvent),
        ({"name": "tidings:close"}, BadEvent),
        ({"channel": ""}, BadChannel),
        ({"channel": None}, BadChannel),
        ({"channel": "a,b"}, BadChannel),
        ({"channels": ["a"]}, BadRequest),
        ({"socket_id": "123.456"}, BadRequest),
        ({"info": "user_count"}, BadRequest),
    ],
)
def test_invalid_publication_is_an_error(fields: dict[str, Any], kind: type[TidingsError]) -> None:
    with pytest.raises(kind):
        event(**fields)


def test_repeated_channels_are_removed() -> None:
    body = json.dumps({"name": "e", "channels": ["b", "private-orders-7", "b", "#server-to-user-9"], "data": "1"})
    requests = read_event(body.encode(), MAPPING, data_max_bytes=99)
    assert requests.channels == ("pusher:b", "orders:7", "user:9")


@pytest.mark.parametrize("channels", [[], "abc", {"a": 1}, None, ["a", ""], [["a"]], ["c"] * 101])
def test_no_channel_or_too_many_is_an_error(channels: object) -> None:
    with pytest.raises((BadChannel, BadRequest)):
        read_event(json.dumps({"name": "e", "channels": channels, "data": "1"}).encode(), MAPPING, data_max_bytes=99)


def test_empty_optional_fields_are_ignored() -> None:
    assert event(socket_id=None, info="").channels == ("pusher:c",)


def test_batch_is_read_in_order_and_errors_have_an_index() -> None:
    items: list[Any] = [{"name": "a", "channel": "c", "data": "1"}, {"name": "b", "channel": "orders:2", "data": "x"}]
    requests = read_batch(json.dumps({"batch": items}).encode(), MAPPING, data_max_bytes=99)
    assert requests == [PublishRequest(("pusher:c",), "a", b"1"), PublishRequest(("orders:2",), "b", b'"x"')]
    with pytest.raises(BadChannel, match=r"^batch\[2\]: "):
        read_batch(json.dumps({"batch": [*items, {"name": "a", "data": "1"}]}).encode(), MAPPING, data_max_bytes=99)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"batch":[]}', b'{"batch":{}}', b'{"batch":[1]}', b"\x80\x04"])
def test_malformed_batch_is_an_error(body: bytes) -> None:
    with pytest.raises(BadRequest):
        read_batch(body, MAPPING, data_max_bytes=99)
