"""Fixtures that end to end tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.processes.client import ClientProcess


@pytest.fixture
def clients() -> Iterator[list[ClientProcess]]:
    """Put a client in, and it ends with the test."""
    made: list[ClientProcess] = []
    yield made
    for client in made:
        client.stop()
