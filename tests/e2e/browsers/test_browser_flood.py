"""A thousand publications per second to a page with the SDK, in Chromium: the page stays responsive.

A long task takes more than 50 ms (W3C Long Tasks). The test measures the CPU time of the page's thread in Chromium's
trace, so that the load of other processes does not count.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from support.browsers.chromium import ListeningPage
from support.processes.hub import HubProcess, token
from support.processes.redis import RedisProcess
from tidings import Emitter

LONG_MS = 50.0
PER_S = 1000
BATCH = 50
SECONDS = 4


@pytest.fixture(scope="module")
def hub(shared_redis: RedisProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    process = HubProcess(tmp_path_factory.mktemp("hub"), "--broker", shared_redis.url).start()
    yield process
    process.stop()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context()
    yield context
    context.close()


def flood(url: str, channel: str) -> int:
    """Publish `PER_S` publications per second for `SECONDS`, evenly, and return their number."""
    count = 0
    with Emitter(url) as emitter:
        start_s = time.monotonic()
        while count < PER_S * SECONDS:
            with emitter.batch() as batch:
                for number in range(count, count + BATCH):
                    batch.emit("ticked", {"n": number, "text": "x" * 150}, channel=channel)
            count += BATCH
            time.sleep(max(0.0, start_s + count / PER_S - time.monotonic()))
    return count


@contextmanager
def traced(page: Page) -> Iterator[list[float]]:
    """Yield a list that holds, after the block, the CPU time of each long task of the page's thread."""
    browser = page.context.browser
    assert browser is not None
    browser.start_tracing(categories=["disabled-by-default-devtools.timeline", "blink.user_timing"])
    page.evaluate("() => performance.mark('load starts')")
    long_ms: list[float] = []
    yield long_ms
    events = json.loads(browser.stop_tracing())["traceEvents"]
    (mark,) = [event for event in events if event["name"] == "load starts"]
    tasks_ms = [
        event["tdur"] / 1000
        for event in events
        if event["name"] == "RunTask" and (event["pid"], event["tid"]) == (mark["pid"], mark["tid"]) and "tdur" in event
    ]
    assert len(tasks_ms) > 100, "the trace has the page's tasks"
    long_ms += [ms for ms in tasks_ms if ms > LONG_MS]


@pytest.mark.parametrize("transport", ["websocket", "polling"])
def test_high_rate_causes_no_long_task_and_arrives_in_order(
    transport: str, hub: HubProcess, shared_redis: RedisProcess, context: BrowserContext
) -> None:
    channel = f"orders:flood-{transport}"
    page = ListeningPage(context, hub.url, channel, token("flooded", channel), transports=[transport])
    page.wait_event("subscribed")
    with traced(page.page) as long_ms:
        count = flood(shared_redis.url, channel)
        page.wait_numbers(count)
    assert page.numbers == list(range(count))
    assert page.events.count("subscribed") == 1
    assert "gap" not in page.events
    assert long_ms == []


def test_long_task_is_detected(context: BrowserContext) -> None:
    page = context.new_page()
    with traced(page) as long_ms:
        page.evaluate(
            """async () => {
                for (let n = 0; n < 200; n += 1) await new Promise((resolve) => setTimeout(resolve));
                for (let n = 0, sum = 0; n < 3e8; n += 1) sum += Math.sqrt(n);
                // A task appears in the trace when it has ended.
                await new Promise((resolve) => setTimeout(resolve, 50));
            }"""
        )
    assert long_ms
