"""Fixtures for tests of the integrations."""

from __future__ import annotations

import pytest

from support.processes.redis import RedisProcess
from support.programs.example_programs import PublishedHistory


@pytest.fixture
def published(shared_redis: RedisProcess, prefix: str) -> PublishedHistory:
    """What is published in the shared Redis below a prefix that no other test uses."""
    return PublishedHistory(shared_redis, prefix)


@pytest.fixture
def published_by_default(shared_redis: RedisProcess) -> PublishedHistory:
    """What is published below the default prefix, which is emptied first: for programs that run as printed."""
    with shared_redis.client() as client:
        for key in client.scan_iter(b"tidings:*"):
            client.delete(key)
    return PublishedHistory(shared_redis)
