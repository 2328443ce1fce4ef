"""Descriptors in reserve, at the limit of this process."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from tidings_hub.engine.capacity.spare_descriptors import SPARES, SpareDescriptors


def open_descriptors() -> int:
    # The listing itself uses one.
    return len(list(Path("/proc/self/fd").iterdir())) - 1


@pytest.fixture
def kept_limit() -> Iterator[int]:
    """The hard limit of this process. The soft limit is set again after the test."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield limits[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_spares_are_open_until_they_are_released() -> None:
    before = open_descriptors()
    spares = SpareDescriptors()
    assert spares.restore()
    assert open_descriptors() == before + SPARES
    assert spares.release()
    assert open_descriptors() == before
    assert not spares.release()


def test_spares_return_only_if_twice_as_many_fit(kept_limit: int) -> None:
    before = open_descriptors()
    spares = SpareDescriptors()
    resource.setrlimit(resource.RLIMIT_NOFILE, (before + 2 * SPARES - 5, kept_limit))
    assert not spares.restore()
    assert open_descriptors() == before
    resource.setrlimit(resource.RLIMIT_NOFILE, (before + 2 * SPARES + 5, kept_limit))
    assert spares.restore()
    assert open_descriptors() == before + SPARES
    spares.release()
