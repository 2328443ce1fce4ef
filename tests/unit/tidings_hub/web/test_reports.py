from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from support.small_hub import SmallHub
from tidings.wire.publication import NO_OPTIONS
from tidings_hub.web.query import has_preference

GOOD: dict[str, Any] = {"channel": "orders:42", "event": "updated", "data": {"id": 42}, "id": "a1"}
ASYNC = {"Prefer": "respond-async"}


def options(hub: SmallHub, channel: str = "orders:42") -> list[str]:
    return [kept.options for kept in hub.histories[channel]]


def test_with_the_preference_it_is_accepted_and_named(client: FlaskClient, hub: SmallHub) -> None:
    answer = client.post("/api/publish", json=GOOD, headers=ASYNC)

    assert answer.status_code == 202
    assert answer.json == {"id": "a1", "cursor": "e1.1", "duplicate": False}
    assert answer.headers["Location"] == "/api/publications/a1"
    assert answer.headers["Preference-Applied"] == "respond-async"
    assert options(hub) == ["r"]


def test_with_the_preference_an_error_is_the_usual_one(client: FlaskClient, hub: SmallHub) -> None:
    hub.down = True
    answer = client.post("/api/publish", json=GOOD, headers=ASYNC)
    assert answer.status_code == 503
    assert "Location" not in answer.headers
    assert "Preference-Applied" not in answer.headers
    assert hub.reports == {}


def test_without_it_nothing_changes(client: FlaskClient, hub: SmallHub) -> None:
    answer = client.post("/api/publish", json=GOOD)
    assert answer.status_code == 200
    assert "Location" not in answer.headers
    assert (options(hub), hub.reports) == ([NO_OPTIONS], {})


def test_who_wants_acknowledgements_gets_a_report_without_asking(client: FlaskClient, hub: SmallHub) -> None:
    assert client.post("/api/publish", json=GOOD | {"ack": True}).status_code == 200
    assert options(hub) == ["ra"]
    assert client.get("/api/publications/a1").status_code == 200


@pytest.mark.parametrize("ack", [1, "true", None, []])
def test_ack_is_true_or_false(client: FlaskClient, ack: object) -> None:
    answer = client.post("/api/publish", json=GOOD | {"ack": ack})
    assert answer.status_code == 400
    assert answer.json is not None
    assert answer.json["error"]["message"].startswith("ack:")


def test_of_several_each_has_a_report_and_there_is_no_one_place(client: FlaskClient, hub: SmallHub) -> None:
    several = {"channels": ["orders:1", "nowhere:2", "orders:3"], "event": "updated", "data": 1, "id": "x"}
    for body in (several, [several | {"id": "y"}, "nothing"]):
        answer = client.post("/api/publish", json=body, headers=ASYNC)
        assert answer.status_code == 202
        assert answer.headers["Preference-Applied"] == "respond-async"
        assert "Location" not in answer.headers
    assert sorted(hub.reports) == [(id_, name) for id_ in "xy" for name in ("orders:1", "orders:3")]


def test_the_report(client: FlaskClient, hub: SmallHub) -> None:
    client.post("/api/publish", json=GOOD, headers=ASYNC)
    hub.missing = ("n2",)
    answer = client.get("/api/publications/a1")
    expected = {
        "id": "a1",
        "cursor": "e1.1",
        "channel": "orders:42",
        "recipients": 2,
        "acks": 1,
        "nodes": {"n1": {"recipients": 2, "acks": 1}},
        "missing": ["n2"],
    }
    assert (answer.status_code, answer.json) == (200, expected)
    assert "Retry-After" not in answer.headers
    hub.is_settled = False
    answer = client.get("/api/publications/a1")
    assert (answer.status_code, answer.json, answer.headers["Retry-After"]) == (202, expected, "1")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("nobody", 404, "not_found"),
        ("b%20d", 400, "bad_id"),
        ("a1?channel=nonsense", 400, "bad_channel"),
        ("a1?chanel=orders:42", 400, "bad_request"),
    ],
)
def test_what_there_is_not(client: FlaskClient, path: str, status: int, code: str) -> None:
    client.post("/api/publish", json=GOOD, headers=ASYNC)
    answer = client.get(f"/api/publications/{path}")
    assert answer.json is not None
    assert (answer.status_code, answer.json["error"]["code"]) == (status, code)


def test_without_a_key_nobody_is_told(anonymous: FlaskClient) -> None:
    assert anonymous.get("/api/publications/a1").status_code == 401


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], False),
        ([""], False),
        (["respond-async"], True),
        (["Respond-Async"], True),
        (["respond-async; foo=bar"], True),
        (["wait=10, respond-async"], True),
        (["return=minimal", "respond-async"], True),
        (["respond-async=1"], False),
        (["respond-asynchronously"], False),
        (['wait="respond-async"'], False),
    ],
)
def test_a_preference_among_others(values: list[str], expected: bool) -> None:
    assert has_preference(values, "respond-async") == expected
