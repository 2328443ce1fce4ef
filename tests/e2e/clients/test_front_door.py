"""Pages of applications with their own schemes, and requests that proxies of all kinds pass on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.network.raw_client import RawWebSocket
from support.processes.hub import HubProcess
from support.waiting import wait_until

POLL = "/socket.io/?EIO=4&transport=polling"
PAGE = {"Host": "shop.example", "Origin": "https://shop.example"}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """It listens on both families and trusts a proxy on this machine."""
    settings = 'host = "::"\ntrusted_proxies = ["127.0.0.1"]\n'
    process = HubProcess(tmp_path_factory.mktemp("proxied"), extra=settings)
    yield process.start()
    process.stop()


@pytest.fixture(scope="module")
def app_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    process = HubProcess(tmp_path_factory.mktemp("apps"), extra='origins = ["capacitor://localhost"]\n')
    yield process.start()
    process.stop()


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-Proto": "https"},
        {"X-Forwarded-Proto": "wss"},
        {"X-Forwarded-For": "9.9.9.9, 127.0.0.1", "X-Forwarded-Proto": "https, http"},
        {"Host": "inner", "X-Forwarded-Proto": "https,http", "X-Forwarded-Host": "shop.example, inner"},
        {"Host": "inner", "Forwarded": 'for="[2001:db8::1]:4711";proto=https;host=shop.example'},
    ],
)
def test_page_behind_a_proxy_with_tls_has_the_origin_of_the_hub(hub: HubProcess, headers: dict[str, str]) -> None:
    assert hub.request("GET", POLL, headers=PAGE | headers)[0] == 200


@pytest.mark.parametrize("headers", [{}, {"X-Forwarded-Proto": "ws"}, {"Forwarded": "proto=http"}])
def test_page_with_tls_is_foreign_to_a_hub_without(hub: HubProcess, headers: dict[str, str]) -> None:
    assert hub.request("GET", POLL, headers=PAGE | headers)[0] == 403


def test_application_with_its_own_scheme_connects(app_hub: HubProcess) -> None:
    status, _, headers = app_hub.request("GET", POLL, headers={"Origin": "capacitor://localhost"})
    assert (status, headers["access-control-allow-origin"]) == (200, "capacitor://localhost")


def test_refused_origin_is_logged_with_advice(app_hub: HubProcess) -> None:
    assert app_hub.request("GET", POLL, headers={"Origin": "ionic://localhost"})[0] == 403
    wait_until(lambda: "'ionic://localhost'" in app_hub.log.read_text(), why="the refused origin is in the log")
    assert "add it to `origins`" in app_hub.log.read_text()


@pytest.mark.parametrize("origin", ["null", "file://"])
def test_page_without_an_origin_learns_that_it_cannot_be_allowed(app_hub: HubProcess, origin: str) -> None:
    status, body, _ = app_hub.request("GET", POLL, headers={"Origin": origin})
    assert (status, body["error"]["code"]) == (403, "bad_origin")
    assert "serve it over HTTP" in body["error"]["message"]
    websocket = RawWebSocket(app_hub.port, "/socket.io/?EIO=4&transport=websocket", Origin=origin)
    assert websocket.receive_text().startswith("0{")
    assert "serve it over HTTP" in websocket.receive_text()
    # One line a minute has one of the two.
    wait_until(lambda: "a page was refused (Origin: " in app_hub.log.read_text(), why="the log says why")


@pytest.mark.parametrize("headers", [{}, {"Upgrade": "websocket"}, {"Connection": "upgrade"}])
def test_proxy_that_drops_the_upgrade_is_named_in_the_log(app_hub: HubProcess, headers: dict[str, str]) -> None:
    status, body, _ = app_hub.request("GET", "/socket.io/?EIO=4&transport=websocket", headers=headers)
    assert (status, body["message"]) == (400, "Bad request")
    wait_until(lambda: "has no `Upgrade: websocket`" in app_hub.log.read_text(), why="the log names the header")


def test_preflight_allows_any_header_name(app_hub: HubProcess) -> None:
    names = ", ".join(["x_request_id", "authorization", *(f"x-trace-{number}" for number in range(40))])
    headers = {"Origin": "capacitor://localhost", "Access-Control-Request-Headers": names}
    status, _, answer = app_hub.request("OPTIONS", POLL, headers=headers)
    assert (status, answer["access-control-allow-headers"]) == (204, names)
