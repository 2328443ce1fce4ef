"""The form of a notification: what is accepted unchanged, and the error of everything else."""

from __future__ import annotations

import json
from collections import UserString
from contextlib import suppress
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidings.errors import BadChannel, BadData, BadId, BadRequest, CallerError, TooLarge
from tidings.wire.notification import EVENT_BYTES, EVENT_DEPTH, Notification, decode, read_notification
from tidings.wire.notification_fields import BODY_MAX, LIFE_MAX_S, LINK_MAX, TITLE_MAX, USERS_MAX, check_link
from tidings.wire.notification_request import read_request
from tidings.wire.payload import MAX_DEPTH, encode_data

NOW_MS = 1_764_090_000_000
FULL: dict[str, Any] = {
    "category": "order_shipped",
    "user": "7",
    "title": "It has shipped <b>äöü</b> 🙂",
    "body": "Line 1\nLine 2 & <script>",
    "url": "/orders/42?tab=1#top",
    "icon": "https://cdn.shop.example/box.png",
    "data": {"order": [42, None]},
    "id": "order-42",
    "group": "order:42",
    "expires_in_s": 60,
}


class Category(StrEnum):
    SHIPPED = "order_shipped"


def made(**changes: Any) -> Notification:
    """The notification of a call with these fields in place of those of FULL; None takes a field away."""
    (notification,) = read_request({**FULL, **changes}, now_ms=NOW_MS)
    return notification


def stored(**changes: Any) -> dict[str, Any]:
    """The stored form of FULL with some fields changed."""
    return {**json.loads(made().encode()), **changes}


def test_encoded_notification_has_every_field_unchanged() -> None:
    assert json.loads(made().encode()) == {
        **{name: value for name, value in FULL.items() if name != "expires_in_s"},
        "at_ms": NOW_MS,
        "expires_at_ms": NOW_MS + 60_000,
    }
    assert decode(made().encode()) == made()


def test_absent_fields_are_absent_everywhere() -> None:
    least = {"category": "order_shipped", "user": "7", "title": "x", "id": "i"}
    (notification,) = read_request(least, now_ms=NOW_MS)
    assert json.loads(notification.encode()) == {**least, "at_ms": NOW_MS}
    assert read_request({**least, "body": None, "data": None, "users": None}, now_ms=NOW_MS) == [notification]
    assert read_request({**least, "body": ""}, now_ms=NOW_MS) == [notification]
    assert decode(notification.encode()) == notification


def test_request_becomes_the_same_notification_again() -> None:
    assert read_request(json.loads(made().encode_request()), now_ms=NOW_MS) == [made()]
    row = json.loads(made().encode_row())
    assert row.keys().isdisjoint({"user", "id", "at_ms"})
    assert read_notification({**row, "user": "7", "id": "order-42", "at_ms": NOW_MS}) == made()


def test_users_get_one_notification_each_with_one_id() -> None:
    for caller_id in ("order-42", None):
        notifications = read_request({**FULL, "user": None, "users": ["7", "8", "7"], "id": caller_id}, now_ms=NOW_MS)
        assert [notification.user for notification in notifications] == ["7", "8"]
        assert len({notification.id for notification in notifications}) == 1
    assert notifications[0].id != made(id=None).id


def test_names_of_subclasses_of_text_are_text() -> None:
    notification = made(category=Category.SHIPPED, title=Category.SHIPPED)
    assert [type(notification.category), type(notification.title)] == [str, str]
    assert json.loads(notification.encode())["category"] == "order_shipped"


def test_lazy_translations_become_text() -> None:
    from django.utils.functional import lazystr

    assert made(title=lazystr("Shipped"), body=lazystr("a")) == made(title="Shipped", body="a")


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"category": None}, BadRequest, "category is None"),
        ({"category": ""}, BadRequest, "category is ''"),
        ({"category": "Order"}, BadRequest, "category is 'Order'"),
        ({"category": "order-shipped"}, BadRequest, "category"),
        ({"category": "1st"}, BadRequest, "category"),
        ({"category": "a" * 65}, BadRequest, "category"),
        ({"category": "a\n"}, BadRequest, "category"),
        ({"category": 7}, BadRequest, "category is 7"),
        ({"category": ["a"]}, BadRequest, "category is a list"),
        ({"user": None}, BadRequest, "user is missing"),
        ({"user": ""}, BadChannel, "user is ''"),
        ({"user": 7}, BadChannel, "user is 7; .* str"),
        ({"user": "a b"}, BadChannel, "user is 'a b'"),
        ({"user": "x" * 136}, BadChannel, "user"),
        ({"user": "7", "users": ["7"]}, BadRequest, "user and users at once"),
        ({"user": None, "users": []}, BadRequest, "users is empty"),
        ({"user": None, "users": "78"}, BadRequest, "users is '78'"),
        ({"user": None, "users": {"7": 1}}, BadRequest, "users is a dict"),
        ({"user": None, "users": 7}, BadRequest, "users is 7"),
        ({"user": None, "users": ["7", ""]}, BadChannel, "user is ''"),
        ({"user": None, "users": [str(n) for n in range(USERS_MAX + 1)]}, TooLarge, "users has more than 1000"),
        ({"title": None}, BadRequest, "title is missing"),
        ({"title": ""}, BadRequest, "title is empty"),
        ({"title": " \u3000"}, BadRequest, "title is empty"),
        ({"title": 7}, BadRequest, "title is 7; it is text"),
        ({"title": b"x"}, BadRequest, "title is a bytes"),
        ({"title": UserString("x")}, BadRequest, "title is a UserString"),
        ({"title": "x" * (TITLE_MAX + 1)}, TooLarge, "title of 201 characters; at most 200"),
        ({"title": "a\nb"}, BadRequest, "title is 'a.nb'; it is one line"),
        ({"title": "a\x1b[31m"}, BadRequest, "title"),
        ({"title": "\ud800"}, BadRequest, "title"),
        ({"body": 7}, BadRequest, "body is 7"),
        ({"body": "x" * (BODY_MAX + 1)}, TooLarge, "body of 2001 characters"),
        ({"body": "a\rb"}, BadRequest, "body"),
        ({"body": "\x00"}, BadRequest, "body"),
        ({"body": "\udfff"}, BadRequest, "body"),
        ({"url": "https://shop.example/" + "x" * LINK_MAX}, TooLarge, "url of"),
        ({"icon": "javascript:alert(1)"}, BadRequest, "icon is 'javascript:alert"),
        ({"icon": "data:image/png;base64,AA=="}, BadRequest, "icon"),
        ({"data": {"a": [1, {"b": object()}]}}, BadData, r"data\.a\[1\]\.b"),
        ({"data": float("nan")}, BadData, "data is nan"),
        ({"data": "x" * 65_536}, TooLarge, "publication_max_bytes"),
        ({"data": "x" * (65_536 - EVENT_BYTES - 100)}, TooLarge, "publication_max_bytes = 65536 leaves 64512"),
        ({"id": ""}, BadId, "not an id"),
        ({"id": "a b"}, BadId, "not an id"),
        ({"id": "x" * 65}, BadId, "not an id"),
        ({"id": 7}, BadId, "not an id"),
        ({"group": ""}, BadId, "group is ''"),
        ({"group": "a/b"}, BadId, "group"),
        ({"group": "x" * 129}, BadId, "group"),
        ({"group": 7}, BadId, "group is 7"),
        ({"expires_in_s": 0}, BadRequest, "expires_in_s is 0"),
        ({"expires_in_s": -1}, BadRequest, "expires_in_s is -1"),
        ({"expires_in_s": "60"}, BadRequest, "expires_in_s"),
        ({"expires_in_s": True}, BadRequest, "expires_in_s"),
        ({"expires_in_s": float("nan")}, BadRequest, "expires_in_s"),
        ({"expires_in_s": LIFE_MAX_S + 1}, BadRequest, "expires_in_s"),
        ({"expires_in_s": 10**400}, BadRequest, "expires_in_s is too large"),
        ({"email": "a@b"}, BadRequest, "'email' is no field of a notification"),
        ({"at_ms": 1}, BadRequest, "'at_ms' is no field"),
    ],
)
def test_malformed_field_is_an_error_that_names_it(
    fields: dict[str, Any], error: type[CallerError], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        read_request({**FULL, **fields}, now_ms=NOW_MS)
    assert type(caught.value) is error
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("fields", [None, [], "x", 7, [FULL]])
def test_what_is_no_object_is_no_notification(fields: object) -> None:
    with pytest.raises(BadRequest, match="a notification is an object"):
        read_request(fields, now_ms=NOW_MS)
    with pytest.raises(BadRequest, match="a notification is an object"):
        decode(json.dumps(fields))


@pytest.mark.parametrize(
    "link",
    [
        "/",
        "/orders/42",
        "/a//b?next=//evil.example",
        "/ä/%20",
        "http://shop.example",
        "HTTPS://Shop.example:8443/ä?q=1#x",
        "https://[::1]/",
        "https://user@shop.example/",
    ],
)
def test_link_to_a_page_is_accepted(link: str) -> None:
    assert check_link(link, "url") == link
    assert decode(made(url=link, icon=link).encode()) == made(url=link, icon=link)


@pytest.mark.parametrize(
    "link",
    [
        *("", " ", "orders/42", "//evil.example", "///evil.example", "/\\evil.example", "\\\\evil.example", "?q", "#x"),
        *("javascript:alert(1)", "JavaScript:alert(1)", "java\nscript:alert(1)", "\tjavascript:alert(1)"),
        *(" javascript:alert(1)", "\x01javascript:alert(1)", "vbscript:x", "data:text/html,x", "blob:x", "file:///etc"),
        *("ftp://shop.example", "ws://shop.example", "mailto:a@b.example", "https:shop.example", "https:/shop.example"),
        *("https://", "https:///x", "https://:80/", "https://h:99999/", "https://h:0/", "https://h:x/", "https://[::1"),
        *("https://shop.example/a b", "https://shop.example\\@evil.example", "/\t/evil.example", "/\n/evil.example"),
        *("https://shop.example/\x00", "/\ud800", "/\u2028", "/\x85"),
    ],
)
def test_link_to_anything_else_is_rejected(link: str) -> None:
    for name in ("url", "icon"):
        with pytest.raises(BadRequest, match=f"{name} is "):
            made(**{name: link})
        with pytest.raises(BadRequest, match=f"{name} is "):
            read_notification(stored(**{name: link}))


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"at_ms": None}, BadRequest),
        ({"at_ms": -1}, BadRequest),
        ({"at_ms": 1.5}, BadRequest),
        ({"at_ms": 2**63}, BadRequest),
        ({"expires_at_ms": NOW_MS}, BadRequest),
        ({"expires_at_ms": NOW_MS + LIFE_MAX_S * 1000 + 1}, BadRequest),
        ({"expires_at_ms": "1"}, BadRequest),
        ({"expires_in_s": 1}, BadRequest),
        ({"users": ["7"]}, BadRequest),
        ({"id": None}, BadId),
        ({"user": None}, BadRequest),
        ({"user": 7}, BadChannel),
        ({"title": "a\nb"}, BadRequest),
        ({"category": "A"}, BadRequest),
    ],
)
def test_stored_form_is_checked_as_well(fields: dict[str, Any], error: type[CallerError]) -> None:
    with pytest.raises(error):
        read_notification(stored(**fields))


@pytest.mark.parametrize("message", [b"", b"{", b"\xff", b"[" * 5000, b'{"a":1}x', b"nul"])
def test_message_that_is_not_json_is_bad_data(message: bytes) -> None:
    with pytest.raises(BadData, match="not JSON"):
        decode(message)


def test_data_is_as_deep_as_its_event_can_hold() -> None:
    deep: object = "x"
    for _ in range(MAX_DEPTH - EVENT_DEPTH):
        deep = [deep]
    event = {"item": {"data": json.loads(made(data=deep).data_json or b"")}}
    assert encode_data(event)
    with pytest.raises(BadData, match="deeper than 62 levels"):
        made(data=[deep])


def test_message_over_the_limit_is_not_parsed() -> None:
    with pytest.raises(TooLarge, match="101 bytes"):
        decode(b"[" * 101, max_bytes=100)


def test_size_is_that_of_the_longest_user() -> None:
    fields = {**FULL, "user": None, "data": None, "users": ["7", "x" * 135]}
    size_bytes = len(made(data=None, user="x" * 135).encode())
    most = (size_bytes - 1) * 2
    with pytest.raises(TooLarge):
        read_request(fields, now_ms=NOW_MS, max_bytes=most)
    assert len(read_request(fields, now_ms=NOW_MS, max_bytes=most + 2)) == 2


@given(
    st.dictionaries(
        st.sampled_from([*FULL, "at_ms", "expires_at_ms", "x"]),
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(),
            st.floats(),
            st.text(max_size=20),
            st.lists(st.text(max_size=5), max_size=3),
        ),
    )
)
def test_any_json_is_a_notification_or_a_callers_error(changes: dict[str, Any]) -> None:
    notifications: list[Notification] = []
    with suppress(CallerError):
        notifications += read_request({**FULL, **changes}, now_ms=NOW_MS)
    with suppress(CallerError):
        notifications.append(read_notification({**stored(), **changes}))
    assert [decode(notification.encode()) for notification in notifications] == notifications
