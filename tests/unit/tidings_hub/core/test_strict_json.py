from __future__ import annotations

import time

import pytest

from tidings.errors import BadRequest
from tidings_hub.core.strict_json import loads


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"a":[1,-2.5,true,null,"x"]}', {"a": [1, -2.5, True, None, "x"]}),
        (b" 7 ", 7),
        (b"1e308", 1e308),
        (b"1" + b"0" * 308, 10**308),
        (b"-1" + b"0" * 308, -(10**308)),
        ('"ü😀"'.encode(), "ü😀"),
        (rb'"\ud83d\ude00"', "😀"),
        (rb'"\\ud800"', "\\ud800"),
        (b'[{"a":1},{"a":1}]', [{"a": 1}, {"a": 1}]),
    ],
)
def test_valid_json_is_returned_as_its_value(body: bytes, value: object) -> None:
    assert loads(body) == value


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not JSON: Expecting value at character 0"),
        (b"[1,]", "not JSON"),
        (b"NaN", "NaN is not JSON"),
        (b"[-Infinity]", "-Infinity is not JSON"),
        (b"1e999", "too large for a double"),
        *((number, "too large for a double") for number in (b"9" * 309, b"-" + b"9" * 309, b"1" + b"0" * 5_000)),
        (b'{"a":1,"b":2,"a":3}', "the name 'a' twice"),
        (b"\xef\xbb\xbf1", "BOM"),
        (b'"a\xff"', "not UTF-8: byte 2"),
        (rb'"\ud800"', "half of a surrogate pair"),
        (rb'{"\uDC00":1}', "half of a surrogate pair"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_anything_else_is_rejected_with_its_cause(body: bytes, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        loads(body)


def test_name_that_is_twice_in_a_wide_object_is_looked_for_in_linear_time() -> None:
    names = b",".join(b'"%d":1' % number for number in (*range(200_000), 199_999))
    started_s = time.perf_counter()
    with pytest.raises(BadRequest, match="the name '199999' twice"):
        loads(b"{%b}" % names)
    # Comparing each name with each other takes ten minutes.
    assert time.perf_counter() - started_s < 30
