from __future__ import annotations

import pytest

from tidings.errors import BadRequest
from tidings_hub.core.strict_json import loads


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"a":[1,-2.5,true,null,"x"]}', {"a": [1, -2.5, True, None, "x"]}),
        (b" 7 ", 7),
        (b"1e308", 1e308),
        (b"9" * 309, int("9" * 309)),
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
        (b"9" * 310, "too large for a double"),
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
