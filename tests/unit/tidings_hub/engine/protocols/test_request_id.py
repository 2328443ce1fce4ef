"""Which query fields `t` identify a request, and which are the time of a clock that may be slow."""

from __future__ import annotations

import pytest

from tidings_hub.engine.protocols.request_id import is_time_id, request_id


@pytest.mark.parametrize("t", [None, ""])
def test_missing_value_identifies_nothing(t: str | None) -> None:
    assert request_id(t) == 0


@pytest.mark.parametrize("t", ["7", "1764428400", "1764428400123"])
def test_whole_number_may_be_a_time(t: str) -> None:
    assert request_id(t) == request_id(t) < 0


@pytest.mark.parametrize("t", ["PXy1.0", "n2k9x4m1qz", "1764428400.12", "17644284001234"])
def test_unique_values_identify_a_request(t: str) -> None:
    assert request_id(t) == request_id(t) > 0


@pytest.mark.parametrize(
    ("t", "is_time"),
    [
        ("mik6h3cs", True), ("milqvi67", True), ("mimqvi67", False), ("MIK6H3CS", False), ("mik6h3c", False),
        ("mik6h3cs0", False), ("+ik6h3cs", False), ("mik6_3cs", False), ("1764428400123", False), ("", False),
        (None, False), ("1764428400.123456", True), ("1764428400.0", True), ("99.5", False), ("1764428400.", False),
        ("1764428400.12e4", False), ("1764428400123456", True), ("1764428400123456789", True),
        ("638999999999999999", True), ("176442840012345678901", False),
    ],
)  # fmt: skip
def test_time_is_recognized(t: str | None, is_time: bool) -> None:
    """socket_io_client for Dart sends milliseconds in base 36, python-socketio sends seconds."""
    assert is_time_id(t, 1_764_428_400.0) is is_time
