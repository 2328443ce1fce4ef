"""What the tests of the integrations share."""

from __future__ import annotations

import pytest

from support.processes.redis import RedisProcess
from support.programs.example_programs import PublishedHistory


@pytest.fixture
def published(shared_redis: RedisProcess, prefix: str) -> PublishedHistory:
    """A corner of the shared Redis that no other test uses."""
    return PublishedHistory(shared_redis, prefix)


@pytest.fixture
def published_by_default(shared_redis: RedisProcess) -> PublishedHistory:
    """The corner with the default prefix, emptied: for programs that are run as printed."""
    with shared_redis.client() as client:
        for key in client.scan_iter(b"tidings:*"):
            client.delete(key)
    return PublishedHistory(shared_redis)
