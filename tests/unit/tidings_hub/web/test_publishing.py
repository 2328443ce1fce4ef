from __future__ import annotations

import json
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from support.small_hub import SmallHub

GOOD: dict[str, Any] = {"channel": "orders:42", "event": "updated", "data": {"id": 42}}


def _code(answer: TestResponse) -> str:
    assert answer.json is not None
    assert set(answer.json) == {"error"}
    assert set(answer.json["error"]) == {"code", "message"}
    return str(answer.json["error"]["code"])


def test_one_publication_is_answered_with_its_receipt(client: FlaskClient, hub: SmallHub) -> None:
    answer = client.post("/api/publish", json=GOOD | {"id": "a1"})

    assert answer.status_code == 200
    assert answer.json == {"id": "a1", "cursor": "e1.1", "duplicate": False}
    (kept,) = hub.histories["orders:42"]
    assert (kept.event, kept.data_json, kept.id) == ("updated", b'{"id":42}', "a1")


def test_the_same_id_again_is_a_duplicate_with_the_first_cursor(client: FlaskClient, hub: SmallHub) -> None:
    first = client.post("/api/publish", json=GOOD | {"id": "a1"}).json
    second = client.post("/api/publish", json=GOOD | {"id": "a1"}).json

    assert first is not None
    assert second == first | {"duplicate": True}
    assert len(hub.histories["orders:42"]) == 1


def test_without_an_id_the_hub_makes_a_new_one_each_time(client: FlaskClient, hub: SmallHub) -> None:
    answers = [client.post("/api/publish", json=GOOD).json for _ in range(2)]

    ids = [answer["id"] for answer in answers if answer is not None]
    assert ids == [kept.id for kept in hub.histories["orders:42"]]
    assert len(set(ids)) == 2


def test_a_user_is_their_channel(client: FlaskClient, hub: SmallHub) -> None:
    answer = client.post("/api/publish", json={"user": "u1", "event": "updated", "data": None})

    assert answer.status_code == 200
    assert list(hub.histories) == ["user:u1"]


def test_several_channels_are_answered_one_by_one(client: FlaskClient, hub: SmallHub) -> None:
    body = {"channels": ["orders:1", "nowhere:2", "orders:3", "orders:1"], "event": "updated", "data": 1, "id": "x"}
    answer = client.post("/api/publish", json=body)

    assert answer.status_code == 200
    assert answer.json is not None
    results = answer.json["results"]
    assert [result.get("cursor") for result in results] == ["e1.1", None, "e1.2"]
    assert results[1]["error"]["code"] == "unknown_namespace"


def test_a_batch_is_answered_item_by_item(client: FlaskClient, hub: SmallHub) -> None:
    items = [
        GOOD,
        GOOD | {"channel": ""},
        "no object",
        {"channels": ["orders:1", "orders:2"], "event": "updated", "data": 1},
    ]
    answer = client.post("/api/publish", json=items)

    assert answer.status_code == 200
    assert answer.json is not None
    receipt, no_channel, no_object, both = answer.json["results"]
    assert receipt["cursor"] == "e1.1"
    assert no_channel["error"]["code"] == "bad_channel"
    assert no_object["error"]["code"] == "bad_request"
    assert [each["cursor"] for each in both["results"]] == ["e1.2", "e1.3"]


@pytest.mark.parametrize(
    "items",
    [[GOOD] * 6, [{"channels": ["orders:1", "orders:2", "orders:3"], "event": "e", "data": 1}] * 2],
    ids=["six items", "six channels in two items"],
)
def test_a_batch_over_the_limit_publishes_nothing(client: FlaskClient, hub: SmallHub, items: object) -> None:
    answer = client.post("/api/publish", json=items)

    assert answer.status_code == 413
    assert _code(answer) == "too_large"
    assert hub.histories == {}
    assert hub.metrics.api_too_large == 1


@pytest.mark.parametrize(
    "target",
    [
        {},
        {"channel": ""},
        {"channel": None},
        {"channel": 7},
        {"channel": ["orders:1"]},
        {"channel": "orders"},
        {"channel": "orders:*"},
        {"channel": "orders:a\r\nb"},
        {"channel": "orders:a\n"},
        {"channels": []},
        {"channels": "orders:1"},
        {"channels": [None]},
        {"channels": {"orders:1": True}},
        {"user": ""},
        {"user": None},
        {"user": "a b"},
        {"channel": "orders:1", "user": "u1"},
        {"channel": "orders:1", "channels": ["orders:1"]},
    ],
    ids=str,
)
def test_a_wrong_target_is_an_error_and_never_everyone(client: FlaskClient, hub: SmallHub, target: object) -> None:
    answer = client.post("/api/publish", json={"event": "updated", "data": 1} | target)  # type: ignore[operator]

    assert answer.status_code == 400
    assert _code(answer) == "bad_channel"
    assert hub.histories == {}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"event": ""}, "bad_event"),
        ({"event": None}, "bad_event"),
        ({"event": {"a": 1}}, "bad_event"),
        ({"event": "e" * 10_000}, "too_large"),
        ({"event": "e" * 129}, "bad_event"),
        ({"event": "a\r\nid: 1"}, "bad_event"),
        ({"event": "a\x00"}, "bad_event"),
        ({"event": "disconnect"}, "bad_event"),
        ({"event": "tidings:ready"}, "bad_event"),
        ({"id": ""}, "bad_id"),
        ({"id": "a\r\nb"}, "bad_id"),
        ({"id": "x" * 65}, "bad_id"),
        ({"id": 7}, "bad_id"),
        ({"room": "orders:1"}, "bad_request"),
        ({"data": "x" * 1023}, "too_large"),
        ({"channel": "nowhere:1"}, "unknown_namespace"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_wrong_is_named(client: FlaskClient, hub: SmallHub, change: dict[str, Any], code: str) -> None:
    answer = client.post("/api/publish", json=GOOD | change)

    assert _code(answer) == code
    assert hub.histories == {}


@pytest.mark.parametrize("name", ["event", "data"])
def test_a_missing_name_is_an_error(client: FlaskClient, name: str) -> None:
    answer = client.post("/api/publish", json={key: value for key, value in GOOD.items() if key != name})

    assert answer.status_code == 400
    assert answer.json is not None
    assert name in answer.json["error"]["message"]


@pytest.mark.parametrize("name", ["__proto__", "constructor", "prototype", "toString"])
def test_names_that_javascript_reserves_are_plain_data(client: FlaskClient, hub: SmallHub, name: str) -> None:
    answer = client.post(
        "/api/publish", json={"channel": f"orders:{name}", "event": name, "data": {name: {"a": name}}, "id": name}
    )

    assert answer.status_code == 200
    (kept,) = hub.histories[f"orders:{name}"]
    assert json.loads(kept.data_json) == {name: {"a": name}}


def test_deep_data_is_refused(client: FlaskClient) -> None:
    answer = client.post(
        "/api/publish",
        data='{"channel":"orders:1","event":"e","data":' + "[" * 66 + "]" * 66 + "}",
        content_type="application/json",
    )

    assert answer.status_code == 400
    assert _code(answer) == "bad_data"


def test_a_broker_that_is_away_is_said(client: FlaskClient, hub: SmallHub) -> None:
    hub.down = True
    answer = client.post("/api/publish", json=GOOD)

    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "1"
    assert _code(answer) == "unavailable"


def test_data_passes_through_compact_and_unchanged(client: FlaskClient, hub: SmallHub) -> None:
    client.post(
        "/api/publish",
        data='{"channel":"orders:1", "event":"e", "data": {"ä": [1.5, true, null, "\\u20ac"]}}'.encode(),
        content_type="application/json; charset=UTF-8",
    )

    assert hub.histories["orders:1"][0].data_json == '{"ä":[1.5,true,null,"€"]}'.encode()
