"""A page with the SDK, in Chromium, and the services of docker-compose.yml: nginx and two hubs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from support.browsers.chromium import ListeningPage
from support.compose import SECRETS, Composition, start_nginx
from tidings import issue

TRANSPORTS = ("websocket", "polling")


@pytest.fixture(params=["ip", "sid"])
def composition(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Composition]:
    composition = Composition(tmp_path, SECRETS | {"PROXY_ROUTING": request.param})
    try:
        yield composition.start()
    finally:
        composition.stop()


def emit(composition: Composition, channel: str, numbers: range) -> None:
    """Publish through nginx, as a backend with an API key."""
    items = [{"channel": channel, "event": "updated", "data": {"n": number}} for number in numbers]
    headers = {"Authorization": f"Bearer {SECRETS['TIDINGS_API_KEY']}", "Content-Type": "application/json"}
    connection = HTTPConnection("127.0.0.1", composition["nginx"].port, timeout=30)
    try:
        connection.request("POST", "/api/publish", json.dumps(items), headers)
        response = connection.getresponse()
        body = json.loads(response.read())
        assert response.status == 200, body
        assert all("cursor" in result for result in body["results"]), body
    finally:
        connection.close()


@pytest.mark.timeout(240)
def test_restarts_of_hubs_and_nginx_lose_nothing(composition: Composition, browser: Browser) -> None:
    channel = "orders:nginx"
    token = issue("7", key=SECRETS["TIDINGS_SECRET"], channels=[channel], expires_in_s=3600)
    context = browser.new_context()
    try:
        pages = [
            ListeningPage(context, composition["nginx"].url, channel, token, transports=[transport])
            for transport in TRANSPORTS
        ]
        for page in pages:
            page.wait_event("subscribed")
        emit(composition, channel, range(10))
        # Each page has a connection to one of the hubs, and all connections go through nginx.
        for start, name in ((10, "hub-1"), (30, "hub-2")):
            composition[name].stop()
            emit(composition, channel, range(start, start + 10))
            composition[name].start().wait_healthy()
            emit(composition, channel, range(start + 10, start + 20))
        composition["nginx"].stop()
        start_nginx(composition["nginx"])
        composition["nginx"].wait_healthy()
        emit(composition, channel, range(50, 60))
        for page, transport in zip(pages, TRANSPORTS, strict=True):
            page.wait_numbers(60)
            assert page.numbers == list(range(60))
            assert "recovered" in page.events
            assert "gap" not in page.events
            assert page.page.evaluate("() => hub.transport") == transport
    finally:
        context.close()
