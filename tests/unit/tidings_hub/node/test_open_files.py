"""Which limits fit into the descriptors of a process."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest

from support.limits import engine_limits
from tidings_hub.config.notifications import Notifications
from tidings_hub.config.settings import Settings
from tidings_hub.node.open_files import fit, fit_open_files, fit_service_files, raise_soft_limit


@pytest.fixture
def kept_limit() -> Iterator[tuple[int, int]]:
    """The limits of this process, which are set again after the test."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield limits
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize("relays", [False, True])
@pytest.mark.parametrize("available", [64, 256, 1024, 4096, 52_000, 62_000])
def test_all_sockets_fit_and_some_descriptors_are_left(available: int, relays: bool) -> None:
    limits = fit(engine_limits(), available, relays=relays)
    sockets = limits.max_connections + limits.reserved_connections + (limits.relay_max if relays else 0)
    assert available - sockets > 0
    assert available - sockets >= min(256, available // 4)
    assert limits.max_connections >= available // 4
    assert limits.reserved_connections >= min(1000, available // 8)


def test_limits_that_fit_are_unchanged() -> None:
    limits = engine_limits(max_connections=500, reserved_connections=100)
    assert fit(limits, 1024, relays=False) == limits
    assert fit(engine_limits(), 70_000, relays=True) == engine_limits()
    assert fit(engine_limits(), 51_256, relays=False) == engine_limits()


def test_soft_limit_is_raised_only_as_far_as_needed(kept_limit: tuple[int, int]) -> None:
    _, hard = kept_limit
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    assert raise_soft_limit(700) == 700
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (700, hard)
    assert raise_soft_limit(600) == 700


def test_limit_that_is_too_low_is_logged(caplog: pytest.LogCaptureFixture, kept_limit: tuple[int, int]) -> None:
    _, hard = kept_limit
    available = 1024 if hard == resource.RLIM_INFINITY else min(hard, 1024)
    resource.setrlimit(resource.RLIMIT_NOFILE, (available, hard))
    assert (
        fit_open_files(engine_limits(max_connections=100, reserved_connections=50), relays=False).max_connections == 100
    )
    assert not caplog.records
    if hard != resource.RLIM_INFINITY:
        limits = fit_open_files(engine_limits(max_connections=hard + 1), relays=False)
        assert limits.max_connections < hard
        assert "raise LimitNOFILE" in caplog.text


def service_settings(connections: int) -> Settings:
    """Settings with a notification service that keeps so many connections, whatever their bounds."""
    return Settings(dev=True, notifications=Notifications().model_copy(update={"connections": connections}))


def test_service_raises_its_soft_limit(kept_limit: tuple[int, int]) -> None:
    _, hard = kept_limit
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    settings = service_settings(300)
    assert fit_service_files(settings) is settings
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 300


def test_service_keeps_as_many_connections_as_it_has_descriptors_for(
    caplog: pytest.LogCaptureFixture, kept_limit: tuple[int, int]
) -> None:
    _, hard = kept_limit
    if hard == resource.RLIM_INFINITY:
        pytest.skip("this process may open any number of files")
    assert 0 < fit_service_files(service_settings(hard)).notifications.connections < hard
    assert "raise LimitNOFILE" in caplog.text
