"""Requests without Flask have the responses that Flask would give, byte by byte; unusual ones are left to Flask."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import SecretStr

from support.small_hub import API_KEY, OLD_API_KEY, SmallHub
from tidings_hub import runtime
from tidings_hub.config.security import Namespace
from tidings_hub.config.settings import Settings
from tidings_hub.engine.protocols.http_request import parse_head
from tidings_hub.metrics import FIELDS
from tidings_hub.web.app import create_app
from tidings_hub.web.direct import DirectApi

GOOD: dict[str, Any] = {"channel": "orders:42", "event": "updated", "data": {"id": 42, "ä": [1.5, None]}, "id": "a1"}
USUAL = {"Host": "hub.example:8000", "Authorization": f"Bearer {API_KEY}", "Content-Type": "application/json"}


@pytest.fixture
def make_hub() -> Callable[[], SmallHub]:
    settings = Settings(
        api_keys=(SecretStr(API_KEY), SecretStr(OLD_API_KEY)),
        namespaces={"orders": Namespace()},
        max_batch=5,
        api_body_max_bytes=4096,
        publication_max_bytes=1024,
    )
    return lambda: SmallHub(settings)


def _request(method: str, path: str, headers: dict[str, str], body: bytes) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def _of_flask(hub: SmallHub, raw: bytes) -> bytes:
    """What eventlet's WSGI server makes of Flask's response. It does not wait, so no event loop has to run."""
    server = runtime.WsgiServer(create_app(hub), log=logging.getLogger("test"))
    request = runtime.WsgiRequest(raw, ("127.0.0.1", 1), ("127.0.0.1", 2), secure=False)
    return server.serve_wsgi_request(request, timeout_s=30, response_max_bytes=1_000_000).raw


def _direct(hub: SmallHub, raw: bytes) -> bytes | None:
    head_bytes, separator, body = raw.partition(b"\r\n\r\n")
    head, api = parse_head(head_bytes + separator), DirectApi(hub)
    response = api.respond(head)
    if response is None and api.accepts(head):
        (response,) = api.respond_all([api.read(body)])
    return None if response is None else response.render(keep_alive=head.keep_alive)


def _without_date(raw: bytes) -> list[bytes]:
    return [line for line in raw.split(b"\r\n") if not line.startswith(b"Date: ")]


def _counts(hub: SmallHub) -> dict[str, object]:
    values = {name: getattr(hub.metrics, name) for name in FIELDS}
    return {name: value for name, value in values.items() if isinstance(value, int | dict) and value}


def _with_length(body: bytes) -> dict[str, str]:
    return USUAL | {"Content-Length": str(len(body))}


BODIES: list[object] = [
    GOOD,
    GOOD | {"ack": True},
    {"user": "u1", "event": "e", "data": None, "id": "x"},
    {"channels": ["orders:1", "nowhere:2"], "event": "e", "data": 1, "id": "x"},
    [GOOD, GOOD, GOOD | {"channel": ""}, "no object", {"channels": ["orders:1"], "event": "e", "data": 1, "id": "y"}],
    GOOD | {"channel": "nowhere:1"},
    GOOD | {"channel": "no channel"},
    GOOD | {"event": "tidings:ready"},
    GOOD | {"id": 7},
    GOOD | {"surprise": 1},
    {"channel": "orders:1", "event": "e"},
    GOOD | {"data": "x" * 2000},
    [GOOD] * 6,
    [],
    1,
]


@pytest.mark.parametrize("body", [*(json.dumps(body).encode() for body in BODIES), b"{", b"\xff", b'{"a":1,"a":2}'])
@pytest.mark.parametrize("connection", ["", "close"])
def test_response_is_that_of_flask(make_hub: Callable[[], SmallHub], body: bytes, connection: str) -> None:
    headers = _with_length(body) | ({"Connection": connection} if connection else {})
    raw = _request("POST", "/api/publish", headers, body)
    by_flask, directly = make_hub(), make_hub()
    expected, response = _of_flask(by_flask, raw), _direct(directly, raw)

    assert response is not None
    assert _without_date(response) == _without_date(expected)
    assert b"\r\nDate: " in response
    assert directly.histories.keys() == by_flask.histories.keys()
    assert directly.reports == by_flask.reports
    assert _counts(directly) == _counts(by_flask)


@pytest.mark.parametrize("state", ["down", "bug"])
def test_error_of_the_broker_is_that_of_flask(
    make_hub: Callable[[], SmallHub], state: str, caplog: pytest.LogCaptureFixture
) -> None:
    body = json.dumps(GOOD).encode()
    raw = _request("POST", "/api/publish", _with_length(body), body)
    hubs = make_hub(), make_hub()
    for hub in hubs:
        hub.down, hub.bug = state == "down", RuntimeError("the cause") if state == "bug" else None
    response = _direct(hubs[1], raw)
    texts = [record.getMessage() for record in caplog.records]

    assert response is not None
    assert _without_date(response) == _without_date(_of_flask(hubs[0], raw))
    assert hubs[1].metrics.api_requests == hubs[0].metrics.api_requests
    assert texts == (["POST /api/publish failed"] if state == "bug" else [])


def test_health_is_that_of_flask(make_hub: Callable[[], SmallHub], monkeypatch: pytest.MonkeyPatch) -> None:
    hub = make_hub()
    monkeypatch.setattr(hub, "health", lambda: {"node": "n1"})
    raw = _request("GET", "/healthz", {"Host": "127.0.0.1"}, b"")
    response = _direct(hub, raw)

    assert response is not None
    assert _without_date(response) == _without_date(_of_flask(hub, raw))


def test_requests_of_one_round_trip_keep_their_order_and_their_errors(make_hub: Callable[[], SmallHub]) -> None:
    hub = make_hub()
    api = DirectApi(hub)
    bodies = [
        json.dumps(GOOD).encode(),
        b"{",
        json.dumps([GOOD | {"id": "b"}, 1, GOOD | {"id": "c"}]).encode(),
        json.dumps(GOOD | {"channel": "nowhere:1"}).encode(),
        json.dumps(GOOD).encode(),
    ]
    responses = api.respond_all([api.read(body) for body in bodies])

    assert [response.head.split()[1] for response in responses] == [b"200", b"400", b"200", b"404", b"200"]
    assert [publication.id for publication in hub.histories["orders:42"]] == ["a1", "b", "c"]
    assert [json.loads(responses[index].body)["duplicate"] for index in (0, 4)] == [False, True]
    assert [result.get("cursor") for result in json.loads(responses[2].body)["results"]] == ["e1.2", None, "e1.3"]
    assert hub.metrics.api_requests == {"200": 3, "400": 1, "404": 1}


@pytest.mark.parametrize(
    "change",
    [
        {"Prefer": "respond-async"},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {API_KEY}"},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/json; charset=latin-1"},
        {"Content-Encoding": "gzip"},
        {"Content-Length": "0"},
        {"Content-Length": "4097"},
        {"Accept": "text/html"},
        {"Accept": "application/json;q=0"},
        {"Origin": "https://shop.example"},
        {"Expect": "100-continue"},
        {"Cookie": "a=b"},
        {"X-HTTP-Method-Override": "GET"},
        {"Host": "a_b"},
        {"Host": "[::1]:8000"},
    ],
    ids=str,
)
def test_unusual_request_is_left_to_flask(make_hub: Callable[[], SmallHub], change: dict[str, str]) -> None:
    hub = make_hub()
    body = json.dumps(GOOD).encode()

    assert _direct(hub, _request("POST", "/api/publish", _with_length(body) | change, body)) is None
    assert hub.histories == {}
    assert hub.metrics.api_requests == {}
    assert hub.metrics.api_unauthorized == 0


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/publish/"),
        ("POST", "/api/publish?a=1"),
        ("POST", "//api/publish"),
        ("POST", "/api/Publish"),
        ("POST", "/api/notifications"),
        ("PUT", "/api/publish"),
        ("GET", "/api/publish"),
        ("HEAD", "/healthz"),
        ("POST", "/healthz"),
        ("GET", "/healthz?a=1"),
        ("GET", "/readyz"),
    ],
)
def test_other_address_or_method_is_left_to_flask(make_hub: Callable[[], SmallHub], method: str, path: str) -> None:
    body = b"" if method in {"GET", "HEAD"} else json.dumps(GOOD).encode()

    assert _direct(make_hub(), _request(method, path, _with_length(body), body)) is None


def test_chunked_body_and_old_http_are_left_to_flask(make_hub: Callable[[], SmallHub]) -> None:
    body = json.dumps(GOOD).encode()
    raw = _request("POST", "/api/publish", _with_length(body), body)
    chunked = _request("POST", "/api/publish", USUAL | {"Transfer-Encoding": "chunked"}, body)

    assert _direct(make_hub(), raw) is not None
    assert _direct(make_hub(), chunked) is None
    assert _direct(make_hub(), raw.replace(b"HTTP/1.1", b"HTTP/1.0")) is None


def test_without_keys_every_publish_is_left_to_flask() -> None:
    body = json.dumps(GOOD).encode()
    raw = _request("POST", "/api/publish", _with_length(body), body)

    assert _direct(SmallHub(Settings(dev=True)), raw) is None
    assert _direct(SmallHub(Settings()), raw) is None


def test_keys_are_those_of_the_present_settings(make_hub: Callable[[], SmallHub]) -> None:
    hub, body = make_hub(), json.dumps(GOOD).encode()
    api, head = DirectApi(hub), parse_head(_request("POST", "/api/publish", _with_length(body), b""))
    assert api.accepts(head)
    # As after SIGHUP.
    hub._settings = hub.settings.model_copy(update={"api_keys": (SecretStr(OLD_API_KEY),)})
    assert not api.accepts(head)


def test_buckets_of_a_cluster_do_not_share_a_round_trip() -> None:
    assert DirectApi(SmallHub(Settings(broker="redis+cluster://127.0.0.1:7000"))).group_max == 1
    assert DirectApi(SmallHub(Settings(broker="redis://127.0.0.1:6379/0"))).group_max > 1
