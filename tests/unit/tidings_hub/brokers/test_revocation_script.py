from __future__ import annotations

import pytest

from tidings.errors import Unavailable
from tidings_hub.brokers.revocation_script import read_stored


def replies(redis_s: int, **until_s: bytes) -> list[object]:
    return [
        [b"%d" % redis_s, b"123"],
        [b"0", [part for name, end in until_s.items() for part in (b"user:" + name.encode(), end)]],
    ]


def test_revocation_has_ended_only_when_both_clocks_have_passed_its_end() -> None:
    for redis_s, now_s in ((3_700, 100.0), (100, 3_700.0)):
        stored = read_stored(replies(redis_s, a=b"50.0", b=b"200.0", c=b"9000.0"), now_s=now_s)
        assert stored.ended == [(b"user:a", b"50.0")]
        assert stored.active == ({"user:b": 200.0, "user:c": 9000.0} if now_s == 100.0 else {"user:c": 9000.0})


@pytest.mark.parametrize("end", [b"", b"soon", b"nan", b"inf", b"-inf", b"1e999"])
def test_value_that_tidings_did_not_write_has_ended(end: bytes) -> None:
    stored = read_stored(replies(100, a=end), now_s=100.0)
    assert (stored.active, stored.ended) == ({}, [(b"user:a", end)])


@pytest.mark.parametrize("name", [b"", b"ann", b"users:ann", b"user:" + b"a" * 300])
def test_name_that_tidings_did_not_write_has_ended(name: bytes) -> None:
    """It would make `revocations_file` unreadable."""
    stored = read_stored([[b"100", b"123"], [b"0", [name, b"900.0", b"jti:a", b"900.0"]]], now_s=100.0)
    assert (stored.active, stored.ended) == ({"jti:a": 900.0}, [(name, b"900.0")])


@pytest.mark.parametrize(
    "parts", [[], [[b"1", b"2"]], [[b"1", b"2"], ValueError("WRONGTYPE")], [b"1", []], [[b"1", b"2"], []]]
)
def test_reply_that_is_an_error_is_unavailable(parts: list[object]) -> None:
    with pytest.raises(Unavailable):
        read_stored(parts, now_s=1.0)


def test_cursor_of_the_next_part_is_returned() -> None:
    assert [read_stored([[b"1", b"2"], [cursor, []]], now_s=1.0).cursor for cursor in (b"17", b"0")] == [b"17", None]
