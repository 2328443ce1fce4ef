"""Fixtures that end-to-end tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from support.browsers.chromium import chromium
from support.processes.client import ClientProcess
from support.processes.hub import HubProcess


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for the tests of a file."""
    with chromium() as browser:
        yield browser


@pytest.fixture
def clients() -> Iterator[list[ClientProcess]]:
    """A list of clients that the test fills. They end with the test."""
    started: list[ClientProcess] = []
    yield started
    for client in started:
        client.stop()


@pytest.fixture
def hubs() -> Iterator[list[HubProcess]]:
    """A list of hubs that the test fills. They are stopped at the end of the test."""
    started: list[HubProcess] = []
    yield started
    for process in started:
        process.stop()
