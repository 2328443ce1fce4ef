"""What the tests of the integrations share."""

from __future__ import annotations

import pytest

from support.processes.redis import RedisProcess
from support.programs.example_programs import Told


@pytest.fixture
def told(shared_redis: RedisProcess, prefix: str) -> Told:
    """A corner of the shared Redis that no other test uses."""
    return Told(shared_redis, prefix)


@pytest.fixture
def told_by_default(shared_redis: RedisProcess) -> Told:
    """The corner with the default prefix, emptied: for programs that are run as printed."""
    with shared_redis.client() as client:
        for key in client.scan_iter(b"tidings:*"):
            client.delete(key)
    return Told(shared_redis)
