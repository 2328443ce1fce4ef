from __future__ import annotations

from dataclasses import fields

import pytest

from tidings.contrib.background.bounds import JobBounds
from tidings.errors import BadConfig, TooLarge


@pytest.mark.parametrize("name", [field.name for field in fields(JobBounds)])
@pytest.mark.parametrize("value", [-1, True, "5", None, float("nan")])
def test_invalid_value_is_refused_with_its_name(name: str, value: object) -> None:
    with pytest.raises(BadConfig, match=name):
        JobBounds(**{name: value})  # type: ignore[arg-type]


def test_settings_have_names_in_capitals() -> None:
    assert JobBounds.of({"THREADS": 2, "LEASE_S": 5}, "X") == JobBounds(threads=2, lease_s=5)


def test_unknown_setting_is_named() -> None:
    with pytest.raises(BadConfig, match="in X: QUEUE; see"):
        JobBounds.of({"QUEUE": 2}, "X")
    with pytest.raises(BadConfig, match="in X: None; see"):
        JobBounds.of({None: 2}, "X")  # type: ignore[dict-item]


def test_lease_is_longer_than_the_pace_of_its_renewals() -> None:
    with pytest.raises(BadConfig, match="twice progress_interval_s"):
        JobBounds(lease_s=1, progress_interval_s=0.6)


def test_request_that_is_too_large_is_refused() -> None:
    bounds = JobBounds(request_max_bytes=3)
    bounds.check_request(3)
    with pytest.raises(TooLarge, match="request_max_bytes is 3"):
        bounds.check_request(4)
