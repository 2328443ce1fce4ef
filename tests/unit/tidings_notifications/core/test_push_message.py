from __future__ import annotations

import json
import re

import pytest

from tidings_notifications.core.counts import InboxCounts
from tidings_notifications.core.notification import Place, StoredNotification
from tidings_notifications.core.push_message import (
    PAYLOAD_MAX_BYTES,
    TTL_MAX_S,
    encode_payload,
    message_of,
    topic_of,
    ttl_s,
)

SMALL = {"id": "1", "title": "Shipped", "body": "On Friday", "url": "/orders/42", "icon": None, "data": {"order": 42}}


def test_small_message_is_whole_without_what_is_absent() -> None:
    assert json.loads(encode_payload(SMALL)) == {name: value for name, value in SMALL.items() if value is not None}


@pytest.mark.parametrize(
    ("fields", "left"),
    [
        ({"data": "x" * 4000}, {"id", "title", "body", "url", "icon", "truncated"}),
        ({"data": "x" * 2000, "icon": "/" + "i" * 2000}, {"id", "title", "body", "url", "icon", "truncated"}),
        ({"data": "x" * 4000, "icon": "/" + "i" * 4000}, {"id", "title", "body", "url", "truncated"}),
    ],
)
def test_data_and_then_the_icon_are_left_out(fields: dict[str, object], left: set[str]) -> None:
    message = json.loads(encode_payload(SMALL | {"icon": "/i.png"} | fields))
    assert message.keys() == left
    assert message["body"] == "On Friday"


@pytest.mark.parametrize("character", ["x", "ä", "\U0001f69a", '"', "\x01"])
def test_longest_body_is_cut_to_what_fits(character: str) -> None:
    payload = encode_payload(SMALL | {"body": character * 4000})
    message = json.loads(payload)
    assert PAYLOAD_MAX_BYTES - 12 < len(payload) <= PAYLOAD_MAX_BYTES
    assert re.fullmatch(f"{re.escape(character)}+…", message["body"])
    assert (message["title"], message["url"], message["truncated"]) == ("Shipped", "/orders/42", True)


def test_largest_fields_fit_and_the_link_remains_if_it_can() -> None:
    plain = json.loads(encode_payload({"id": "1", "title": "t" * 200, "body": "b" * 2000, "url": "/" + "u" * 2047}))
    assert plain["url"] == "/" + "u" * 2047
    assert plain["title"] == "t" * 200
    wide = encode_payload({"id": "1", "title": "\U0001f69a" * 200, "body": "b" * 2000, "url": "/" + '"' * 2047})
    assert len(wide) <= PAYLOAD_MAX_BYTES
    assert "url" not in json.loads(wide)
    assert json.loads(wide)["id"] == "1"


def test_text_that_just_fits_is_not_cut() -> None:
    room = PAYLOAD_MAX_BYTES - len(encode_payload({"id": "1", "body": ""}))
    assert json.loads(encode_payload({"id": "1", "body": "b" * room})) == {"id": "1", "body": "b" * room}
    assert json.loads(encode_payload({"id": "1", "body": "b" * (room + 1)}))["truncated"] is True


@pytest.mark.parametrize(
    ("expires_ms", "expected_s"), [(None, TTL_MAX_S), (61_999, 60), (1_000, 0), (500, 0), (10**15, TTL_MAX_S)]
)
def test_ttl_ends_with_the_notification(expires_ms: int | None, expected_s: int) -> None:
    assert ttl_s(expires_ms, 1_000) == expected_s


def test_topic_has_the_form_of_the_standard() -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-]{32}", topic_of("order:42"))
    assert topic_of("order:42") != topic_of("order:43")


def test_message_has_what_a_service_worker_shows() -> None:
    row = StoredNotification("n1", "7", Place.INBOX, "order", "Shipped", 1_000, body="On Friday", data='{"order":42}')
    counts = InboxCounts("7", 2, 3, 9)
    assert json.loads(encode_payload(message_of(row, counts))) == {
        "id": "n1",
        "category": "order",
        "title": "Shipped",
        "body": "On Friday",
        "tag": "n1",
        "count": 1,
        "created_at": 1_000,
        "counts": {"unseen": 2, "unread": 3},
        "data": {"order": 42},
    }
    row.group_key = "order:42"
    assert message_of(row, counts)["tag"] == "order:42"


def test_largest_data_of_a_notification_leaves_room_for_the_rest() -> None:
    row = StoredNotification("n1", "7", Place.INBOX, "order", "Shipped", 1_000, data=json.dumps("x" * 60_000))
    message = json.loads(encode_payload(message_of(row, InboxCounts("7"))))
    assert (message["title"], message["truncated"], message["counts"]) == ("Shipped", True, {"unseen": 0, "unread": 0})
    assert "data" not in message
