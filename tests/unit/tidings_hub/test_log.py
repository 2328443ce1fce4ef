from __future__ import annotations

import logging
import os
import select
import sys
from collections.abc import Iterator

import pytest

from tidings_hub.log import LINE_MAX_BYTES, LineFormatter, RateLimit, StderrHandler, escape_control, mask_secrets

CANARY = "s3cr3t-canary"


@pytest.mark.parametrize(
    "text",
    [
        f"GET /sse?token={CANARY}&x=1",
        f"?access_token={CANARY}",
        f"Authorization: Bearer {CANARY}",
        f"authorization={CANARY}",
        f"{{'Authorization': 'Bearer {CANARY}'}}",
        f"Basic {CANARY}",
        f"redis://ann:{CANARY}@host:6379/0",
        f"rediss://:{CANARY}@host",
        f"amqp://u:{CANARY}@h/v",
        f"password={CANARY}",
        f"api_key: {CANARY}",
        f"X-API-Key: {CANARY}",
        f'{{"secret": "{CANARY}"}}',
        f"TIDINGS_SECRET={CANARY}",
        f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.{CANARY}",
        f"token=…{CANARY}",
        f"secret: <{CANARY}1>",
        f"secret: $({CANARY})",
        f"redis://ann:password{CANARY}@host",
        # As `openssl rand -base64` makes it, and as it works without %40.
        *(f"redis://:a/{CANARY}@host:6379/0", f"amqps://u:{CANARY}/b@h/v", f"redis+sentinel://:a/{CANARY}@h,h2/m"),
        *(f"redis://:a@{CANARY}@host", f"http://u:a@{CANARY}@host/x"),
    ],
)
def test_secrets_are_masked(text: str) -> None:
    assert CANARY not in mask_secrets(text)


@pytest.mark.parametrize(
    "text",
    [
        *("channel orders:42", "redis://host:6379/0", "a cursor ab.12", "http://127.0.0.1:8000/"),
        *("http://h:8000/api/channels/user:ann@x.org", "redis://host:6379/0 for ann@x.org"),
        # Advice that names the place of a secret.
        *("auth {token: …}", "Authorization: Bearer <API key>", "TIDINGS_SECRET=$(openssl rand -base64 32)"),
        *("amqp://user:password@host:5672/vhost", "redis://[user:password@]host[:port][/db]", 'Bearer realm="tidings"'),
    ],
)
def test_text_without_secrets_is_unchanged(text: str) -> None:
    assert mask_secrets(text) == text


def test_control_characters_are_escaped() -> None:
    assert escape_control("a\nb\x1b[31m\u202e\x00\x85é") == r"a\nb\x1b[31m\u202e\x00\x85é"


def record(message: str, *, error: bool = False, **extra: object) -> logging.LogRecord:
    exc_info = None
    if error:
        try:
            raise ValueError(f"token={CANARY}\nsecond line")
        except ValueError:
            exc_info = sys.exc_info()
    log_record = logging.getLogger("tidings.t").makeRecord(
        "tidings.t", logging.INFO, "f", 1, message, (), exc_info, extra=extra
    )
    log_record.created, log_record.msecs = 0.0, 7.0
    return log_record


def test_format_of_a_line() -> None:
    line = LineFormatter().format(record("listening", port=8000, name_="a b", empty="", forged="x\ny=1"))
    assert line == '1970-01-01T00:00:00.007Z INFO tidings.t listening port=8000 name_="a b" empty="" forged="x\\\\ny=1"'


def test_a_traceback_is_one_line_without_secrets() -> None:
    line = LineFormatter().format(record("failed", error=True))
    assert "\n" not in line
    assert "ValueError" in line
    assert CANARY not in line


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)
    os.close(writing)


def test_log_that_is_not_read_does_not_block(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    handler = StderrHandler(select, writing)
    handler.setFormatter(LineFormatter())
    for number in range(1000):
        handler.emit(record("x" * 500 + str(number)))
    assert handler.dropped > 0
    dropped = handler.dropped
    os.read(reading, 65_536)
    handler.emit(record("next"))
    assert handler.dropped == 0
    assert os.read(reading, 1_000_000).decode().rstrip().endswith(f"next dropped={dropped}")


def test_a_long_line_keeps_both_ends(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    handler = StderrHandler(select, writing)
    handler.setFormatter(LineFormatter())
    handler.emit(record("begin " + "x" * 100_000 + " end"))
    line = os.read(reading, 1_000_000)
    assert len(line) <= LINE_MAX_BYTES
    assert b"begin" in line
    assert line.endswith(b"end\n")


def test_line_is_written_once_a_minute() -> None:
    limit = RateLimit()
    assert limit.passes("a", now_s=0) == 0
    assert [limit.passes("a", now_s=second) for second in (1, 30, 59.9)] == [None] * 3
    assert limit.passes("b", now_s=30) == 0
    assert limit.passes("a", now_s=60) == 3
    assert limit.passes("a", now_s=120) == 0


def test_memory_of_the_rate_limit_is_limited() -> None:
    limit = RateLimit()
    for number in range(10_000):
        limit.passes(str(number), now_s=0)
    assert len(limit._last_lines) <= 1000
