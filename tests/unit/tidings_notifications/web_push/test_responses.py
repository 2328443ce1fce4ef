from __future__ import annotations

import pytest

from tidings_notifications.core.delivery import Failed, Gone, Outcome, Retry, Sent
from tidings_notifications.web_push.responses import outcome_of, retry_after_ms

NOW_S = 1_764_590_400.0  # Mon, 01 Dec 2025 12:00:00 GMT


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        *((status, Sent()) for status in (200, 201, 202, 204)),
        *((status, Gone()) for status in (404, 410)),
        *((status, Retry(7_000, f"{status} busy")) for status in (408, 425, 429, 500, 502, 503, 504)),
        *((status, Failed(f"{status} busy")) for status in (301, 307, 400, 401, 403, 405, 413)),
    ],
)
def test_each_status_has_its_outcome(status: int, outcome: Outcome) -> None:
    assert outcome_of(status, "7", b"busy", unix_s=NOW_S) == outcome


@pytest.mark.parametrize(
    ("text", "expected_ms"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("0", 0),
        ("120", 120_000),
        (" 3 ", 3_000),
        ("9" * 400, 86_400_000),
        ("Mon, 01 Dec 2025 12:00:30 GMT", 30_000),
        ("Mon, 01 Dec 2025 11:00:00 GMT", 0),
        ("Mon, 01 Dec 2025 12:00:30 -0000", 30_000),
        ("Mon, 01 Dec 99999 12:00:30 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str | None, expected_ms: int | None) -> None:
    assert retry_after_ms(text, unix_s=NOW_S) == expected_ms


def test_words_of_a_response_are_one_short_line() -> None:
    outcome = outcome_of(400, None, b'{"reason":\r\n\x1b[31m"BadJwtToken"}\xff' + b"x" * 900, unix_s=NOW_S)
    assert isinstance(outcome, Failed)
    assert outcome.reason.startswith('400 {"reason": [31m"BadJwtToken"}')
    assert outcome.reason.isprintable()
    assert len(outcome.reason) <= 204
