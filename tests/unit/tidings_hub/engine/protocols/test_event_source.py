from __future__ import annotations

import pytest

from tidings.codes import CODES
from tidings_hub.engine.protocols.event_source import is_event_source, may_return, retry_ms


@pytest.mark.parametrize(
    ("headers", "is_one"),
    [
        ({"accept": "text/event-stream"}, True),  # a browser without TLS, or the package eventsource of Node
        ({"accept": "*/*", "sec-fetch-mode": "cors"}, True),  # a browser's fetch
        ({"accept": "*/*"}, False),
        ({"accept": "text/event-stream, application/json"}, False),
        ({}, False),
    ],
)
def test_event_source_is_recognized(headers: dict[str, str], *, is_one: bool) -> None:
    assert is_event_source(headers) is is_one


def test_same_request_may_return_after_each_code_below_4500_but_not_with_an_expired_token() -> None:
    assert {name for name, code in CODES.items() if may_return(name) is not (code.number < 4500)} == {"expired"}


@pytest.mark.parametrize(
    ("code", "bounds"),
    [("", (2_000, 4_000)), ("full", (2_000, 10_000)), ("too_fast", (5_000, 20_000))],
)
def test_retry_is_spread(code: str, bounds: tuple[int, int]) -> None:
    drawn = {retry_ms(code) for _ in range(200)}
    assert len(drawn) > 50
    assert bounds[0] <= min(drawn) <= max(drawn) <= bounds[1]
