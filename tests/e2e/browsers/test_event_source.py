"""An EventSource in Chromium while the hub cannot answer. It gives up for good after an error status."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

from support.browsers.chromium import BACK_S, chromium
from support.network.raw_client import RawWebSocket
from support.processes.hub import HubProcess, token
from support.processes.redis import RedisProcess

SETTINGS = """
broker_timeout_s = 1.0
"""
LISTEN = """(address) => {
  window.events = [];
  window.source = new EventSource(address);
  for (const name of ["tidings:close", "tidings:ready", "tidings:event", "updated", "error", "open"])
    source.addEventListener(name, (event) => events.push(name + (event.data ? " " + event.data : "")));
}"""


@pytest.fixture
def hub(tmp_path: Path, redis: RedisProcess) -> Iterator[HubProcess]:
    process = HubProcess(tmp_path, "--broker", redis.url, extra=SETTINGS).start()
    yield process
    process.stop()


@pytest.fixture
def page() -> Iterator[Page]:
    with chromium() as browser:
        page = browser.new_page()
        # Pages of the hub itself may connect to nothing.
        page.route("**/listens", lambda route: route.fulfill(body="<!doctype html>", content_type="text/html"))
        yield page


def wait_event(page: Page, start: str) -> None:
    page.wait_for_function(
        "(start) => events.some((event) => event.startsWith(start))", arg=start, timeout=BACK_S * 1e3
    )


def test_event_source_reconnects_after_a_stall_of_redis(hub: HubProcess, redis: RedisProcess, page: Page) -> None:
    page.goto(f"{hub.url}/listens")
    redis.pause()
    page.evaluate(LISTEN, f"/sse?channels=orders:1&token={token('ann', 'orders:1')}")
    wait_event(page, 'tidings:close {"code":"unavailable"')
    redis.resume()
    wait_event(page, "tidings:ready")
    hub.publish("orders:1", "updated", {"n": 1})
    wait_event(page, "updated")


def test_event_source_with_an_invalid_token_does_not_reconnect(hub: HubProcess, page: Page) -> None:
    page.goto(f"{hub.url}/listens")
    page.evaluate(LISTEN, "/sse?channels=orders:1&token=wrong")
    wait_event(page, "error")
    assert page.evaluate("source.readyState") == 2


def test_event_source_reconnects_to_a_node_that_was_full(tmp_path: Path, page: Page) -> None:
    hub = HubProcess(tmp_path, extra="max_connections = 1\n").start()
    try:
        websocket = RawWebSocket(hub.port, "/socket.io/?EIO=4&transport=websocket")
        page.goto(f"{hub.url}/listens")
        page.evaluate(LISTEN, f"/sse?channels=orders:1&token={token('u', 'orders:*')}")
        wait_event(page, 'tidings:close {"code": "full"')
        websocket.socket.close()
        wait_event(page, "tidings:ready")
    finally:
        hub.stop()


def test_event_source_reconnects_when_its_address_has_room_again(tmp_path: Path, page: Page) -> None:
    hub = HubProcess(tmp_path, extra="connections_per_address = 1\n").start()
    try:
        websocket = RawWebSocket(hub.port, "/socket.io/?EIO=4&transport=websocket")
        page.goto(f"{hub.url}/listens")
        page.evaluate(LISTEN, f"/sse?channels=orders:1&token={token('u', 'orders:*')}")
        wait_event(page, 'tidings:close {"code": "too_many_connections"')
        websocket.socket.close()
        wait_event(page, "tidings:ready")
    finally:
        hub.stop()


def test_event_source_reconnects_with_a_channel_that_was_new_too_fast(tmp_path: Path, page: Page) -> None:
    hub = HubProcess(tmp_path, extra="new_channels_per_minute = 6\nnew_channels_burst = 1\n").start()
    try:
        page.goto(f"{hub.url}/listens")
        for number in range(2):
            # The first one uses up the user's rate for ten seconds.
            page.evaluate(LISTEN, f"/sse?channels=orders:{number}&token={token('u', 'orders:*')}")
        wait_event(page, 'tidings:close {"code":"too_fast"')
        wait_event(page, "tidings:ready")
    finally:
        hub.stop()


def test_event_source_learns_the_code_of_a_close(hub: HubProcess, page: Page) -> None:
    page.goto(f"{hub.url}/listens")
    page.evaluate(LISTEN, f"/sse?channels=orders:1&token={token('cy', 'orders:1')}")
    wait_event(page, "tidings:ready")
    assert hub.request("POST", "/api/revocations", {"user": "cy", "for_s": 600})[0] == 201
    wait_event(page, 'tidings:close {"code":"revoked"')
    # It reconnects once, and the hub refuses it for good.
    page.wait_for_function("source.readyState === 2", timeout=BACK_S * 1e3)


def test_publications_do_not_call_the_handlers_of_an_event_source(hub: HubProcess, page: Page) -> None:
    page.goto(f"{hub.url}/listens")
    page.evaluate(LISTEN, f"/sse?channels=orders:2&token={token('bob', 'orders:2')}")
    wait_event(page, "tidings:ready")
    for name in ("error", "open", "updated"):
        hub.publish("orders:2", name, {"n": 1})
    wait_event(page, "updated")
    events = page.evaluate("events")
    assert [event for event in events if event.startswith("tidings:event")] == [
        f'tidings:event {{"channel":"orders:2","event":"{name}","data":{{"n":1}}}}' for name in ("error", "open")
    ]
    assert [event for event in events if event.startswith(("error", "open"))] == ["open"]
