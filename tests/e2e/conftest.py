"""Fixtures that end-to-end tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.processes.client import ClientProcess


@pytest.fixture
def clients() -> Iterator[list[ClientProcess]]:
    """A list of clients that the test fills. They end with the test."""
    started: list[ClientProcess] = []
    yield started
    for client in started:
        client.stop()
