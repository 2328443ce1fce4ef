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
    return [publication.options for publication in hub.histories[channel]]


def test_respond_async_returns_202_and_the_location_of_the_report(client: FlaskClient, hub: SmallHub) -> None:
    response = client.post("/api/publish", json=GOOD, headers=ASYNC)

    assert response.status_code == 202
    assert response.json == {"id": "a1", "cursor": "e1.1", "duplicate": False}
    assert response.headers["Location"] == "/api/publications/a1"
    assert response.headers["Preference-Applied"] == "respond-async"
    assert options(hub) == ["r"]


def test_respond_async_does_not_change_errors(client: FlaskClient, hub: SmallHub) -> None:
    hub.down = True
    response = client.post("/api/publish", json=GOOD, headers=ASYNC)
    assert response.status_code == 503
    assert "Location" not in response.headers
    assert "Preference-Applied" not in response.headers
    assert hub.reports == {}


def test_without_respond_async_no_report_is_opened(client: FlaskClient, hub: SmallHub) -> None:
    response = client.post("/api/publish", json=GOOD)
    assert response.status_code == 200
    assert "Location" not in response.headers
    assert (options(hub), hub.reports) == ([NO_OPTIONS], {})


def test_ack_opens_a_report_without_respond_async(client: FlaskClient, hub: SmallHub) -> None:
    assert client.post("/api/publish", json=GOOD | {"ack": True}).status_code == 200
    assert options(hub) == ["ra"]
    assert client.get("/api/publications/a1").status_code == 200


@pytest.mark.parametrize("ack", [1, "true", None, []])
def test_ack_that_is_not_a_boolean_is_rejected(client: FlaskClient, ack: object) -> None:
    response = client.post("/api/publish", json=GOOD | {"ack": ack})
    assert response.status_code == 400
    assert response.json is not None
    assert response.json["error"]["message"].startswith("ack:")


def test_several_publications_have_a_report_each_and_no_location(client: FlaskClient, hub: SmallHub) -> None:
    publication = {"channels": ["orders:1", "nowhere:2", "orders:3"], "event": "updated", "data": 1, "id": "x"}
    for body in (publication, [publication | {"id": "y"}, "nothing"]):
        response = client.post("/api/publish", json=body, headers=ASYNC)
        assert response.status_code == 202
        assert response.headers["Preference-Applied"] == "respond-async"
        assert "Location" not in response.headers
    assert sorted(hub.reports) == [(id_, name) for id_ in "xy" for name in ("orders:1", "orders:3")]


def test_report_is_202_until_its_counts_are_final(client: FlaskClient, hub: SmallHub) -> None:
    client.post("/api/publish", json=GOOD, headers=ASYNC)
    hub.missing = ("n2",)
    response = client.get("/api/publications/a1")
    expected = {
        "id": "a1",
        "cursor": "e1.1",
        "channel": "orders:42",
        "recipients": 2,
        "acks": 1,
        "nodes": {"n1": {"recipients": 2, "acks": 1}},
        "missing": ["n2"],
    }
    assert (response.status_code, response.json) == (200, expected)
    assert "Retry-After" not in response.headers
    hub.is_settled = False
    response = client.get("/api/publications/a1")
    assert (response.status_code, response.json, response.headers["Retry-After"]) == (202, expected, "1")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("nobody", 404, "not_found"),
        ("b%20d", 400, "bad_id"),
        ("a1?channel=nonsense", 400, "bad_channel"),
        ("a1?chanel=orders:42", 400, "bad_request"),
    ],
)
def test_unknown_or_malformed_id_is_rejected(client: FlaskClient, path: str, status: int, code: str) -> None:
    client.post("/api/publish", json=GOOD, headers=ASYNC)
    response = client.get(f"/api/publications/{path}")
    assert response.json is not None
    assert (response.status_code, response.json["error"]["code"]) == (status, code)


def test_report_requires_an_api_key(anonymous: FlaskClient) -> None:
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
def test_preference_is_found_among_others(values: list[str], expected: bool) -> None:
    assert has_preference(values, "respond-async") == expected
