"""API keys, errors and headers, at every address."""

from __future__ import annotations

import logging

import pytest
from flask.testing import FlaskClient
from pydantic import SecretStr

from support.small_hub import API_KEY, OLD_API_KEY, SmallHub
from tidings_hub.config.settings import Settings
from tidings_hub.web.app import create_app
from tidings_hub.web.routes import ROUTES

PATHS_WITH_KEY = ["/api", "/api/publish", "/api/channels", "/api/openapi.json", "/api/no-such-address", "/metrics"]


@pytest.mark.parametrize("path", PATHS_WITH_KEY)
@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "Bearer wrong", f"Basic {API_KEY}", API_KEY, f"Bearer {API_KEY}x", "Bearer \xff"],
)
def test_paths_with_key_are_401_without_a_valid_key(
    anonymous: FlaskClient, hub: SmallHub, path: str, header: str | None
) -> None:
    response = anonymous.get(path, headers={} if header is None else {"Authorization": header})

    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="tidings"'
    assert response.json is not None
    assert response.json["error"]["code"] == "unauthorized"
    assert API_KEY not in response.text
    assert hub.metrics.api_unauthorized == 1


@pytest.mark.parametrize("header", [f"Bearer {API_KEY}", f"bearer {OLD_API_KEY}", f"Bearer   {API_KEY} "])
def test_every_configured_key_is_accepted(anonymous: FlaskClient, header: str) -> None:
    assert anonymous.get("/api/channels", headers={"Authorization": header}).status_code == 200


def test_api_is_closed_if_no_key_is_configured() -> None:
    response = create_app(SmallHub(Settings())).test_client().get("/api/channels")

    assert response.status_code == 401
    assert "api_keys" in response.text


def test_dev_without_keys_accepts_only_loopback_hosts(dev: FlaskClient) -> None:
    assert dev.get("/api/channels").status_code == 200
    for host in ("127.0.0.1:8000", "[::1]:8000", "localhost", "LOCALHOST:1"):
        assert dev.get("/api/channels", headers={"Host": host}).status_code == 200
    for host in ("rebound.example:8000", "127.0.0.1.example", "[::2]"):
        assert dev.get("/api/channels", headers={"Host": host}).status_code == 403


def test_dev_with_keys_requires_them() -> None:
    client = create_app(SmallHub(Settings(dev=True, api_keys=(SecretStr(API_KEY),)))).test_client()

    assert client.get("/api/channels").status_code == 401
    assert 'data-key-needed="true"' in client.get("/").text


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/no-such-address", 404, "not_found"),
        ("GET", "/api/no-such-address", 404, "not_found"),
        ("GET", "//api/channels", 404, "not_found"),
        ("GET", "/api/channels/", 404, "not_found"),
        ("GET", "/static/page.css", 404, "not_found"),
        ("GET", "/api/publish", 405, "not_allowed"),
        ("OPTIONS", "/api/publish", 405, "not_allowed"),
        ("DELETE", "/healthz", 405, "not_allowed"),
    ],
)
def test_unknown_address_or_method_has_the_usual_error_format(
    client: FlaskClient, method: str, path: str, status: int, code: str
) -> None:
    response = client.open(path, method=method)

    assert response.status_code == status
    assert response.json is not None
    assert response.json["error"]["code"] == code


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_405_names_the_allowed_method(client: FlaskClient, route: object) -> None:
    rule, method = route.rule, route.method  # type: ignore[attr-defined]
    response = client.open(rule.replace("<channel>", "orders:1").replace("<user>", "u1"), method="PATCH")

    assert response.status_code == 405
    assert method in response.headers["Allow"]


@pytest.mark.parametrize(("path", "accept"), [("/api/channels", "text/html"), ("/metrics", "application/json")])
def test_accept_header_without_the_media_type_is_406(client: FlaskClient, path: str, accept: str) -> None:
    assert client.get(path, headers={"Accept": accept}).status_code == 406
    assert client.get(path, headers={"Accept": f"{accept}, */*;q=0.1"}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/metrics", "/api/channels", "/nowhere", "/api/publish"])
def test_every_response_has_the_security_headers(client: FlaskClient, path: str) -> None:
    headers = client.get(path, headers={"Origin": "https://evil.example"}).headers

    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert "'unsafe" not in headers["Content-Security-Policy"]
    assert not [name for name in headers.keys() if name.lower().startswith("access-control")]  # noqa: SIM118


def test_unexpected_error_is_500_and_only_the_log_has_the_cause(
    client: FlaskClient, hub: SmallHub, caplog: pytest.LogCaptureFixture
) -> None:
    hub.bug = RuntimeError("the secret cause")
    with caplog.at_level(logging.ERROR):
        response = client.post("/api/publish", json={"channel": "orders:1", "event": "e", "data": 1})

    assert response.status_code == 500
    assert response.json == {
        "error": {"code": "internal", "message": "Internal error in the hub; its log has the cause."}
    }
    assert "RuntimeError" in caplog.text
    assert API_KEY not in caplog.text


def test_requests_are_counted_by_status(client: FlaskClient, hub: SmallHub) -> None:
    client.get("/api/channels")
    client.get("/api/channels?limit=0")
    client.get("/healthz")

    assert hub.metrics.api_requests == {"200": 1, "400": 1}
