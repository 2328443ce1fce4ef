from __future__ import annotations

import json
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from support.small_hub import SmallHub

GOOD: dict[str, Any] = {"channel": "orders:42", "event": "updated", "data": {"id": 42}}


def _code(response: TestResponse) -> str:
    assert response.json is not None
    assert set(response.json) == {"error"}
    assert set(response.json["error"]) == {"code", "message"}
    return str(response.json["error"]["code"])


def test_publish_returns_the_receipt(client: FlaskClient, hub: SmallHub) -> None:
    response = client.post("/api/publish", json=GOOD | {"id": "a1"})

    assert response.status_code == 200
    assert response.json == {"id": "a1", "cursor": "e1.1", "duplicate": False}
    (publication,) = hub.histories["orders:42"]
    assert (publication.event, publication.data_json, publication.id) == ("updated", b'{"id":42}', "a1")


def test_repeated_id_is_a_duplicate_with_the_first_cursor(client: FlaskClient, hub: SmallHub) -> None:
    first = client.post("/api/publish", json=GOOD | {"id": "a1"}).json
    second = client.post("/api/publish", json=GOOD | {"id": "a1"}).json

    assert first is not None
    assert second == first | {"duplicate": True}
    assert len(hub.histories["orders:42"]) == 1


def test_hub_generates_a_new_id_for_each_publication_without_one(client: FlaskClient, hub: SmallHub) -> None:
    responses = [client.post("/api/publish", json=GOOD).json for _ in range(2)]

    ids = [response["id"] for response in responses if response is not None]
    assert ids == [publication.id for publication in hub.histories["orders:42"]]
    assert len(set(ids)) == 2


def test_user_target_publishes_in_the_user_channel(client: FlaskClient, hub: SmallHub) -> None:
    response = client.post("/api/publish", json={"user": "u1", "event": "updated", "data": None})

    assert response.status_code == 200
    assert list(hub.histories) == ["user:u1"]


def test_backend_may_publish_the_events_of_background_jobs(client: FlaskClient, hub: SmallHub) -> None:
    response = client.post("/api/publish", json={"user": "u1", "event": "tidings:job", "data": {"state": "done"}})

    assert response.status_code == 200
    assert [publication.event for publication in hub.histories["user:u1"]] == ["tidings:job"]


def test_event_of_the_notification_service_is_published_in_the_channel_of_a_user(
    client: FlaskClient, hub: SmallHub
) -> None:
    response = client.post("/api/publish", json={"channel": "user:u1", "event": "tidings:inbox", "data": {"a": 1}})

    assert response.status_code == 200
    (publication,) = hub.histories["user:u1"]
    assert (publication.event, publication.data_json) == ("tidings:inbox", b'{"a":1}')


def test_several_channels_have_one_result_each(client: FlaskClient, hub: SmallHub) -> None:
    body = {"channels": ["orders:1", "nowhere:2", "orders:3", "orders:1"], "event": "updated", "data": 1, "id": "x"}
    response = client.post("/api/publish", json=body)

    assert response.status_code == 200
    assert response.json is not None
    results = response.json["results"]
    assert [result.get("cursor") for result in results] == ["e1.1", None, "e1.2"]
    assert results[1]["error"]["code"] == "unknown_namespace"


def test_batch_has_one_result_per_item(client: FlaskClient, hub: SmallHub) -> None:
    items = [
        GOOD,
        GOOD | {"channel": ""},
        "no object",
        {"channels": ["orders:1", "orders:2"], "event": "updated", "data": 1},
    ]
    response = client.post("/api/publish", json=items)

    assert response.status_code == 200
    assert response.json is not None
    receipt, no_channel, no_object, two_channels = response.json["results"]
    assert receipt["cursor"] == "e1.1"
    assert no_channel["error"]["code"] == "bad_channel"
    assert no_object["error"]["code"] == "bad_request"
    assert [result["cursor"] for result in two_channels["results"]] == ["e1.2", "e1.3"]


@pytest.mark.parametrize(
    "items",
    [[GOOD] * 6, [{"channels": ["orders:1", "orders:2", "orders:3"], "event": "e", "data": 1}] * 2],
    ids=["six items", "six channels in two items"],
)
def test_batch_over_the_limit_publishes_nothing(client: FlaskClient, hub: SmallHub, items: object) -> None:
    response = client.post("/api/publish", json=items)

    assert response.status_code == 413
    assert _code(response) == "too_large"
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
def test_wrong_target_is_rejected_and_nothing_is_published(client: FlaskClient, hub: SmallHub, target: object) -> None:
    response = client.post("/api/publish", json={"event": "updated", "data": 1} | target)  # type: ignore[operator]

    assert response.status_code == 400
    assert _code(response) == "bad_channel"
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
        ({"event": "tidings:inbox"}, "bad_channel"),
        ({"event": "tidings:inbox", "channel": "user:7", "ack": True}, "bad_event"),
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
def test_wrong_field_is_rejected_with_its_code(
    client: FlaskClient, hub: SmallHub, change: dict[str, Any], code: str
) -> None:
    response = client.post("/api/publish", json=GOOD | change)

    assert _code(response) == code
    assert hub.histories == {}


@pytest.mark.parametrize("name", ["event", "data"])
def test_missing_field_is_named_in_the_error(client: FlaskClient, name: str) -> None:
    response = client.post("/api/publish", json={key: value for key, value in GOOD.items() if key != name})

    assert response.status_code == 400
    assert response.json is not None
    assert name in response.json["error"]["message"]


@pytest.mark.parametrize("name", ["__proto__", "constructor", "prototype", "toString"])
def test_names_reserved_in_javascript_are_plain_data(client: FlaskClient, hub: SmallHub, name: str) -> None:
    response = client.post(
        "/api/publish", json={"channel": f"orders:{name}", "event": name, "data": {name: {"a": name}}, "id": name}
    )

    assert response.status_code == 200
    (publication,) = hub.histories[f"orders:{name}"]
    assert json.loads(publication.data_json) == {name: {"a": name}}


def test_deeply_nested_data_is_rejected(client: FlaskClient) -> None:
    response = client.post(
        "/api/publish",
        data='{"channel":"orders:1","event":"e","data":' + "[" * 66 + "]" * 66 + "}",
        content_type="application/json",
    )

    assert response.status_code == 400
    assert _code(response) == "bad_data"


def test_unreachable_broker_is_503_with_retry_after(client: FlaskClient, hub: SmallHub) -> None:
    hub.down = True
    response = client.post("/api/publish", json=GOOD)

    assert response.status_code == 503
    assert response.headers["Retry-After"] == "1"
    assert _code(response) == "unavailable"


def test_data_is_stored_compact_and_unchanged(client: FlaskClient, hub: SmallHub) -> None:
    client.post(
        "/api/publish",
        data='{"channel":"orders:1", "event":"e", "data": {"ä": [1.5, true, null, "\\u20ac"]}}'.encode(),
        content_type="application/json; charset=UTF-8",
    )

    assert hub.histories["orders:1"][0].data_json == '{"ä":[1.5,true,null,"€"]}'.encode()
