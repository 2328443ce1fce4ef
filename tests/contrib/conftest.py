"""Fixtures for tests of the integrations."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.processes.redis import RedisProcess
from support.programs.example_programs import PublishedHistory
from tidings import Emitter


@pytest.fixture
def published(shared_redis: RedisProcess, prefix: str) -> PublishedHistory:
    """The publications in the shared Redis under a prefix of this test only."""
    return PublishedHistory(shared_redis, prefix)


@pytest.fixture
def published_by_default(shared_redis: RedisProcess) -> PublishedHistory:
    """The publications under the default prefix, which is emptied first, for unmodified programs of the docs."""
    with shared_redis.client() as client:
        for key in client.scan_iter(b"tidings:*"):
            client.delete(key)
    return PublishedHistory(shared_redis)


@pytest.fixture
def emitter(published: PublishedHistory) -> Iterator[Emitter]:
    """An emitter of `published`."""
    with Emitter(published.url, prefix=published.prefix) as emitter:
        yield emitter
