"""Fixtures that end-to-end tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.processes.client import ClientProcess
from support.processes.hub import HubProcess


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
