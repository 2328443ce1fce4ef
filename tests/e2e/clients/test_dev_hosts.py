"""`--dev` serves this machine only: a foreign page that points its name to 127.0.0.1 (DNS rebinding) gets nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.network.raw_client import HANDSHAKE, RawClient, RawResponse
from support.processes.hub import HubProcess

PATHS = [
    "/",
    "/tidings.js",
    "/healthz",
    "/readyz",
    "/metrics",
    "/api/channels",
    "/static/page.js",
    "/nothing",
    "/socket.io/?EIO=4&transport=polling",
    "/sse?channels=chat:1",
]
WEBSOCKET = "/socket.io/?EIO=4&transport=websocket"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    process = HubProcess(tmp_path_factory.mktemp("dev"), "--dev", config="").start()
    yield process
    process.stop()


def get(hub: HubProcess, target: str, *host_lines: str, version: str = "1.1", **headers: str) -> RawResponse:
    """The response to a GET with these Host lines."""
    lines = [f"GET {target} HTTP/{version}", *(f"Host: {host}" for host in host_lines)]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    with RawClient(hub.port) as raw:
        raw.send("\r\n".join([*lines, "", ""]).encode())
        return raw.response()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("host", ["evil.example", "EVIL.example.:8000", "127.0.0.1.evil.example", "192.168.1.5:8000"])
def test_foreign_host_gets_403_at_every_path(hub: HubProcess, path: str, host: str) -> None:
    response = get(hub, path, host)
    assert response.status == 403
    assert b'"forbidden"' in response.body
    # A rebound page has the origin of the host that it names.
    assert get(hub, path, host, Origin=f"http://{host}").status == 403


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.:1", "127.0.0.1:1", "[::1]:8000", "app.localhost"])
def test_this_machine_is_served(hub: HubProcess, host: str) -> None:
    assert get(hub, PATHS[-2], host).status == 200
    assert get(hub, PATHS[-1], host).status == 200
    assert get(hub, WEBSOCKET, host, **HANDSHAKE).status == 101
    assert get(hub, "/api/channels", host).status == 200


def test_websocket_handshake_to_a_foreign_host_gets_403(hub: HubProcess) -> None:
    assert get(hub, WEBSOCKET, "evil.example", **HANDSHAKE).status == 403


@pytest.mark.parametrize("name", ["X-Forwarded-Host", "Forwarded", "X-Host", "X-Original-Host"])
def test_forged_header_does_not_replace_the_host(hub: HubProcess, name: str) -> None:
    assert get(hub, "/healthz", "evil.example", **{name: "localhost"}).status == 403


def test_absolute_target_counts_as_the_host(hub: HubProcess) -> None:
    assert get(hub, "http://evil.example/healthz", "localhost").status == 403
    assert get(hub, "http://localhost/healthz", "evil.example").status == 200


def test_two_hosts_or_none_are_refused(hub: HubProcess) -> None:
    assert get(hub, "/healthz", "localhost", "evil.example").status == 400
    assert get(hub, "/healthz").status == 400
    # Programs that speak HTTP/1.0, such as the health checks of some balancers, send none.
    assert get(hub, "/healthz", version="1.0").status == 200


def test_repeated_poll_is_checked_like_the_first_one(hub: HubProcess) -> None:
    with RawClient(hub.port) as raw:
        for host, status in (("localhost", 200), ("evil.example", 403)):
            raw.send(f"GET {PATHS[-2]} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            assert raw.response().status == status


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1", "http://localhost:1"])
def test_page_of_another_origin_cannot_use_the_api(hub: HubProcess, origin: str) -> None:
    """A browser sends a POST without JSON to any address, and asks for permission only before it shows the response."""
    for method, path in (("POST", "/api/users/7/disconnect"), ("GET", "/api/channels"), ("GET", "/metrics")):
        status, body, _ = hub.request(method, path, headers={"Origin": origin, "Content-Type": "text/plain"})
        assert (status, body["error"]["code"]) == (403, "forbidden")


def test_own_page_and_programs_can_use_the_api(hub: HubProcess) -> None:
    for headers in ({"Origin": f"http://127.0.0.1:{hub.port}"}, {}):
        assert hub.request("POST", "/api/users/7/disconnect", headers=headers)[0] == 200


def test_host_of_a_listed_origin_is_served(tmp_path: Path) -> None:
    hub = HubProcess(tmp_path, "--dev", config="")
    hub.environment = {"TIDINGS_ORIGINS": "http://my.example:5173"}
    try:
        hub.start()
        assert get(hub, PATHS[-2], "my.example:5173").status == 200
        assert get(hub, PATHS[-2], "evil.example").status == 403
        for origin, status in (("http://my.example:5173", 200), (hub.url, 200), ("http://evil.example", 403)):
            assert hub.request("GET", "/api/channels", headers={"Origin": origin})[0] == status
        assert hub.metric("tidings_bad_hosts_total") == 1
        assert "evil.example" in hub.log.read_text()
    finally:
        hub.stop()
