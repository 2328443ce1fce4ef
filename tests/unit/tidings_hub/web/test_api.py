from __future__ import annotations

import time

import pytest
from flask.testing import FlaskClient

from support.small_hub import SmallHub
from tidings_hub.metrics import FIELDS, Kind
from tidings_hub.web.response_models import PresenceResponse


def _publish(client: FlaskClient, times: int) -> None:
    for number in range(1, times + 1):
        body = {"channel": "orders:1", "event": "e", "data": {"n": number}, "id": f"i{number}"}
        assert client.post("/api/publish", json=body).status_code == 200


def _row(number: int, user: str) -> dict[str, object]:
    row = {"connection": f"c{number}", "user": user, "transport": "polling", "channels": 2, "age_s": 1.5, "node": "n1"}
    return row | {"sid": "the Engine.IO sid, a secret"}


def test_history_returns_the_publications(client: FlaskClient, hub: SmallHub) -> None:
    _publish(client, 2)
    response = client.get("/api/channels/orders:1/history").json

    assert response is not None
    assert response["cursor"] == "e1.2"
    assert response["publications"] == [publication.to_wire() for publication in hub.histories["orders:1"]]
    assert response["publications"][0]["data"] == {"n": 1}


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        # As everywhere else: the last ones, unless a cursor says where to begin.
        ("", [2, 3, 4]),
        ("?limit=2", [3, 4]),
        ("?limit=9999", [2, 3, 4]),
        ("?limit=2&newest=false", [1, 2]),
        ("?limit=2&since=e1.1", [2, 3]),
        ("?limit=2&newest=true", [3, 4]),
        ("?newest=false&since=e1.2", [3, 4]),
        ("?since=e1.4", []),
    ],
)
def test_history_limit_since_and_newest_select_publications(
    hub: SmallHub, client: FlaskClient, query: str, numbers: list[int]
) -> None:
    _publish(client, 4)
    response = client.get(f"/api/channels/orders:1/history{query}").json

    assert response is not None
    assert [publication["data"]["n"] for publication in response["publications"]] == numbers
    assert hub.metrics.history_limited == ("limit=2" not in query)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/api/channels/orders/history", "bad_channel"),
        ("/api/channels/nowhere:1/history", "unknown_namespace"),
        ("/api/channels/orders:1/history?since=1", "bad_cursor"),
        ("/api/channels/orders:1/history?since=", "bad_cursor"),
        ("/api/channels/orders:1/history?limit=0", "bad_request"),
        ("/api/channels/orders:1/history?limit=-1", "bad_request"),
        ("/api/channels/orders:1/history?limit=10001", "bad_request"),
        ("/api/channels/orders:1/history?limit=%D9%A3", "bad_request"),
        ("/api/channels/orders:1/history?limit=1&limit=2", "bad_request"),
        ("/api/channels/orders:1/history?newest=1", "bad_request"),
        ("/api/channels/orders:1/history?nevest=true", "bad_request"),
        ("/api/channels?after=orders", "bad_channel"),
        ("/api/connections?after=a%0Ab", "bad_request"),
    ],
)
def test_wrong_query_is_rejected_with_its_code(client: FlaskClient, path: str, code: str) -> None:
    response = client.get(path)

    assert response.status_code in {400, 404}
    assert response.json is not None
    assert response.json["error"]["code"] == code


def test_connections_are_paginated_and_contain_no_secrets(client: FlaskClient, hub: SmallHub) -> None:
    hub.rows = [_row(number, "u1") for number in (3, 1, 5, 2, 4)]
    names: list[str] = []
    after = ""
    while True:
        response = client.get(f"/api/connections?limit=2{after}")
        assert response.json is not None
        assert "sid" not in response.text
        names += [row["connection"] for row in response.json["connections"]]
        if response.json["next"] is None:
            break
        after = f"&after={response.json['next']}"

    assert names == ["c1", "c2", "c3", "c4", "c5"]


def test_channels_are_listed_with_connection_counts(client: FlaskClient) -> None:
    _publish(client, 1)

    expected = {"channels": [{"channel": "orders:1", "connections": 1}], "next": None, "nodes": 1, "missing": []}
    assert client.get("/api/channels").json == expected


def test_local_query_works_without_the_broker(client: FlaskClient, hub: SmallHub) -> None:
    hub.down, hub.rows = True, [_row(1, "u1")]

    assert client.get("/api/connections").status_code == 503
    response = client.get("/api/connections?here=true").json
    assert response is not None
    assert [row["connection"] for row in response["connections"]] == ["c1"]


def test_nodes_response_has_totals(client: FlaskClient) -> None:
    response = client.get("/api/nodes").json

    assert response is not None
    assert [node["node"] for node in response["nodes"]] == ["n1", "n2"]
    assert response["connections"] == {"websocket": 4, "polling": 2, "sse": 0}
    assert (response["sessions"], response["subscriptions"]) == (6, 10)


def test_user_is_disconnected(client: FlaskClient, hub: SmallHub) -> None:
    hub.rows = [_row(1, "u1"), _row(2, "u2"), _row(3, "u1")]

    hub.missing = ("n2",)
    assert client.post("/api/users/u1/disconnect").json == {"disconnected": 2, "nodes": 1, "missing": ["n2"]}
    assert [row["user"] for row in hub.rows] == ["u2"]
    assert client.post("/api/users/a%20b/disconnect").status_code == 400


def test_connection_is_disconnected(client: FlaskClient, hub: SmallHub) -> None:
    hub.rows = [_row(1, "u1"), _row(3, "u1")]

    assert client.post("/api/connections/c3/disconnect").json == {"disconnected": 1, "nodes": 1, "missing": []}
    assert [row["connection"] for row in hub.rows] == ["c1"]
    assert client.post("/api/connections/a%20b/disconnect").status_code == 400


@pytest.mark.parametrize("action", ["subscribe", "unsubscribe"])
def test_connections_of_a_user_are_subscribed_and_unsubscribed(client: FlaskClient, hub: SmallHub, action: str) -> None:
    hub.rows = [_row(1, "u1"), _row(2, "u2")]
    response = client.post(f"/api/users/u1/{action}", json={"channel": "orders:1"})

    assert (response.status_code, response.json) == (
        200,
        {"connections": 1, "refused": 0, "nodes": 1, "missing": []},
    )
    assert [(command.name, command.arguments) for command in hub.commands] == [
        (action, {"user": "u1", "channel": "orders:1"})
    ]
    assert client.post(f"/api/users/u1/{action}", json={"channel": "nowhere:1"}).status_code == 404
    assert client.post(f"/api/users/u1/{action}", json={"channel": "orders"}).status_code == 400
    assert client.post(f"/api/users/u1/{action}", json={}).status_code == 400


def test_user_channel_cannot_be_unsubscribed(client: FlaskClient, hub: SmallHub) -> None:
    response = client.post("/api/users/u1/unsubscribe", json={"channel": "user:u1"})

    assert response.status_code == 400
    assert hub.commands == []


@pytest.mark.parametrize(("target", "key"), [({"user": "u1"}, "user:u1"), ({"jti": "t-1"}, "jti:t-1")])
@pytest.mark.parametrize("period", ["for_s", "until_s"])
def test_user_or_token_is_revoked(
    client: FlaskClient, hub: SmallHub, target: dict[str, str], key: str, period: str
) -> None:
    now_s = time.time()
    response = client.post("/api/revocations", json=target | {period: 60 if period == "for_s" else now_s + 60})

    assert response.status_code == 201
    details = {"until_s": hub.revoked[key], "disconnected": 0, "nodes": 1, "missing": []}
    assert response.json == {"user": None, "jti": None} | target | details
    assert hub.revoked[key] == pytest.approx(now_s + 60, abs=30)


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"user": "u1"},
        {"for_s": 60},
        {"user": "u1", "jti": "t", "for_s": 60},
        {"user": "u1", "for_s": 60, "until_s": 1},
        {"user": "u1", "for_s": 0},
        {"user": "u1", "for_s": "60"},
        {"user": "u1", "for_s": True},
        {"user": "u1", "until_s": 1e18},
        {"user": "", "for_s": 60},
        {"jti": "", "for_s": 60},
        {"jti": "a\n", "for_s": 60},
    ],
    ids=str,
)
def test_malformed_revocation_is_rejected(client: FlaskClient, hub: SmallHub, body: object) -> None:
    assert client.post("/api/revocations", json=body).status_code == 400
    assert hub.revoked == {}


def test_health_and_readiness_need_no_key(anonymous: FlaskClient, hub: SmallHub) -> None:
    health, ready = anonymous.get("/healthz"), anonymous.get("/readyz")
    assert (health.status_code, ready.status_code) == (200, 200)
    assert health.json is not None
    assert health.json["status"] == "ok"

    hub.down = True
    assert anonymous.get("/healthz").status_code == 200
    ready = anonymous.get("/readyz")
    assert ready.status_code == 503
    assert ready.json == {"ready": False, "checks": {"broker": False}}


def test_health_lists_insecure_options(dev: FlaskClient, anonymous: FlaskClient) -> None:
    responses = [client.get("/healthz").json for client in (anonymous, dev)]

    assert responses[0] is not None
    assert responses[1] is not None
    assert responses[0]["insecure"] == []
    assert responses[1]["insecure"][0].startswith("dev:")


def test_metrics_show_every_field(client: FlaskClient, hub: SmallHub) -> None:
    hub.metrics.count(hub.metrics.publish_errors, "unavailable", 3)
    response = client.get("/metrics")

    assert response.content_type == "text/plain; version=0.0.4; charset=utf-8"
    for name, (kind, _) in FIELDS.items():
        assert f"# TYPE tidings_{name}" + ("_total" if kind in {Kind.COUNTER, Kind.BY_CODE} else "") in response.text
    assert 'tidings_publish_errors_total{code="unavailable"' in response.text


def test_presence_returns_the_members(hub: SmallHub, client: FlaskClient) -> None:
    hub.present["demo:1"] = {"b": b'{"name":"\xc3\xa9","n":[1,{}]}', "a": b"null"}
    response = client.get("/api/channels/demo:1/presence")
    members = [{"user": "a", "info": None}, {"user": "b", "info": {"name": "é", "n": [1, {}]}}]
    assert (response.status_code, response.json) == (200, {"cursor": "e1.0", "count": 2, "members": members})
    PresenceResponse.model_validate(response.json)
    assert client.get("/api/channels/demo:1/presence?limit=1").json == {"cursor": "e1.0", "count": 2, "members": None}
    assert client.get("/api/channels/demo:2/presence").json == {"cursor": "e1.0", "count": 0, "members": []}
    assert client.get("/api/channels/user:7/presence").status_code == 403
    assert client.get("/api/channels/nowhere:1/presence").status_code == 404
    for query in ("limit=0", "limit=x", "limit=10001", "limit=1&limit=2", "all=1"):
        assert client.get(f"/api/channels/demo:1/presence?{query}").status_code == 400
    hub.down = True
    assert client.get("/api/channels/demo:1/presence").status_code == 503
