from __future__ import annotations

import enum
import gc
import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock
from decimal import Decimal
from ipaddress import ip_address, ip_interface, ip_network
from types import FrameType, MappingProxyType
from typing import Any
from uuid import UUID

import pytest
from django.utils.functional import SimpleLazyObject, lazy, lazystr
from werkzeug.local import LocalProxy

from support.vectors import examples
from tidings.errors import BadData, BadRequest, TooLarge
from tidings.wire import payload
from tidings.wire.payload import MAX_DEPTH, encode_data
from tidings_hub.core import strict_json


class Colour(enum.Enum):
    RED = "red"


class Size(enum.IntEnum):
    BIG = 3


@pytest.mark.parametrize("example", examples("payload")["forms"], ids=lambda example: ascii(example["json"][:30]))
def test_documented_forms_are_encoded(example: dict[str, Any]) -> None:
    assert encode_data(example["data"]) == example["json"].encode()


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (datetime(2026, 11, 22, 17, 30, 0, 5, tzinfo=UTC), '"2026-11-22T17:30:00.000005+00:00"'),
        (date(2026, 11, 22), '"2026-11-22"'),
        (clock(17, 30), '"17:30:00"'),
        (UUID("12345678-1234-5678-1234-567812345678"), '"12345678-1234-5678-1234-567812345678"'),
        (Decimal("12.340"), '"12.340"'),
        (timedelta(), '"PT0S"'),
        (timedelta(days=1, hours=2, minutes=3, seconds=4.5), '"P1DT2H3M4.5S"'),
        (-timedelta(minutes=1), '"-PT1M"'),
        (timedelta(microseconds=-10), '"-PT0.00001S"'),
        (timedelta.min, '"-P999999999D"'),
        (ip_address("10.0.0.1"), '"10.0.0.1"'),
        (ip_network("2001:db8::/32"), '"2001:db8::/32"'),
        (ip_interface("10.0.0.1/8"), '"10.0.0.1/8"'),
        (Colour.RED, '"red"'),
        (Size.BIG, "3"),
        ((1, 2), "[1,2]"),
        (MappingProxyType({"a": Decimal(1)}), '{"a":"1"}'),
        ({2: "a", None: "b", True: "c"}, '{"2":"a","null":"b","true":"c"}'),
    ],
)
def test_python_types_beyond_json_are_encoded(value: object, encoded: str) -> None:
    assert encode_data(value) == encoded.encode()


def _cycle() -> dict[str, object]:
    inner: dict[str, object] = {}
    inner["cycle"] = [inner]
    return inner


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"price": float("nan")}, "data.price"),
        ([1, float("inf")], "data[1]"),
        ([Decimal("NaN")], "data[0]"),
        ({"items": [{"tags": {1, 2}}]}, "data.items[0].tags"),
        ({"raw": b"x"}, "data.raw"),
        ({"f": print}, "data.f"),
        ({"o": object()}, "data.o"),
        (_cycle(), "data.cycle[0]"),
        ("\ud800", "data"),
        ({"a\udfff": 1}, "(a key)"),
        ({"a": [{float("nan"): 1}]}, "data.a[0] has the key nan"),
        ({(1, 2): 3}, "tuple"),
        ({"n": [10**309]}, "data.n[0] is too large"),
        ({"n": -(2**1024)}, "data.n is too large"),
        ([10**5000], "data[0] is too large"),
        ({"a": {10**5000: 1}}, "data.a has an integer"),
        ({"a": [{1: "x", "1": "y"}]}, "data.a[0].1: two keys"),
        ({"true": 1, True: 2}, "data.true: two keys"),
        ({None: 1, "null": 2}, "data.null: two keys"),
        ({"1.5": 1, 1.5: 2}, "data.1.5: two keys"),
        (MappingProxyType({-1: 1, "-1": 2}), "data.-1: two keys"),
        ({"a": {1: "1" * 400}, "b": {1e16: 1, "1e+16": 2}}, "data.b.1e+16: two keys"),
    ],
)
def test_unrepresentable_value_is_named_by_its_path(value: object, path: str) -> None:
    with pytest.raises(BadData) as caught:
        encode_data(value)
    assert path in str(caught.value)


def test_integers_that_a_double_cannot_hold_are_errors() -> None:
    """JavaScript would read Infinity."""
    for value in (10**308, -(10**308), "9" * 400, ["1" * 400, 10**307]):
        assert json.loads(encode_data(value)) == value
    for padding in range(0, 110, 7):
        with pytest.raises(BadData, match=r"data\.n\[1\] is too large for a double"):
            encode_data({"n": ["x" * padding, -(10**309)]})


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


def test_nesting_has_a_limit() -> None:
    assert json.loads(encode_data(nested(MAX_DEPTH))) == nested(MAX_DEPTH)
    for depth in (MAX_DEPTH + 1, MAX_DEPTH + 2, 5_000, 100_000):
        with pytest.raises(BadData, match="nested deeper"):
            encode_data(nested(depth))


def test_the_size_limit_counts_bytes_and_is_exact() -> None:
    assert len(encode_data("ü" * 9, max_bytes=20)) == 20
    with pytest.raises(TooLarge, match="publication_max_bytes"):
        encode_data("ü" * 10, max_bytes=20)


def test_wide_value_takes_time_proportional_to_its_size() -> None:
    started_s = time.perf_counter()
    with pytest.raises(TooLarge):
        encode_data([[]] * 200_000)
    assert time.perf_counter() - started_s < 10


@pytest.mark.parametrize("last", [1, float("nan")])
def test_values_below_a_long_key_take_time_proportional_to_their_size(last: object) -> None:
    data = {"k" * 1_000_000: [*([[]] * 200_000), last]}
    started_s = time.perf_counter()
    with pytest.raises(BadData, match="nested") if last == 1 else pytest.raises(BadData, match=r"\[200000\] is nan"):
        encode_data([data, nested(MAX_DEPTH + 1)] if last == 1 else data, max_bytes=10_000_000)
    # To copy the key for each value would take minutes.
    assert time.perf_counter() - started_s < 30


def python_calls(function: Callable[[], object]) -> int:
    """How many functions of the module run: a measure of time that the load of the machine does not change."""
    calls = 0

    def count(frame: FrameType, event: str, _: object) -> None:
        nonlocal calls
        calls += event == "call" and frame.f_code.co_filename == payload.__file__

    # A collection would run the finalizers of other tests' objects.
    gc.collect()
    gc.disable()
    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(None)
        gc.enable()
    return calls


WIDE = {
    "lists": [[]] * 20_000,
    "deep lists": [nested(MAX_DEPTH - 1)] * 400,
    "lists and a key that could be a number": [{"1": 1}, *([[]] * 20_000)],
    "brackets in strings": ["[", '\\"[', '"]', *([[]] * 100), "[[" * 10_000],
    "a long number in a string": ["9" * 400, *([[]] * 20_000)],
}


@pytest.mark.parametrize("name", WIDE)
def test_no_value_is_visited_in_python_unless_it_is_wrong(name: str) -> None:
    # Walking through 60 KB of lists takes 50 ms, and a client may send 50 of them per second.
    data = WIDE[name]
    assert python_calls(lambda: encode_data(data)) < 50


@pytest.mark.parametrize(
    ("last", "message"),
    [
        (float("inf"), "JSON cannot represent the data"),
        ("\ud800", "JSON cannot represent the data"),
        (10**309, "too large for a double"),
        (nested(MAX_DEPTH), "nested deeper"),
        ({1: 1, "1": 2}, "two keys become the same text"),
    ],
    ids=["infinity", "half of a pair", "integer", "depth", "keys"],
)
def test_search_for_the_path_of_an_error_is_limited(last: object, message: str) -> None:
    def rejected() -> None:
        with pytest.raises(BadData, match=message):
            encode_data([*([[]] * 20_000), last], searched_max=100)

    assert python_calls(rejected) < 2_000


def test_brackets_in_strings_are_no_nesting() -> None:
    for text in ("[" * 100, '"[' * 100, "\\[" * 100, '\\"[' * 100, "[" * 99 + "\\"):
        assert json.loads(encode_data([text, {text: text}])) == [text, {text: text}]
        with pytest.raises(BadData, match=r"data\[2\].* is nested deeper"):
            encode_data([text, text, nested(MAX_DEPTH)])


def test_path_in_a_message_is_short() -> None:
    data: object = float("nan")
    for number in range(MAX_DEPTH - 1):
        data = {f"{number}" * 1_000: data}
    with pytest.raises(BadData) as caught:
        encode_data(data)
    assert len(str(caught.value)) < 400


def test_no_control_character_is_left_raw() -> None:
    encoded = encode_data("".join(map(chr, range(32))))
    assert not set(encoded) & set(range(32))


@pytest.mark.parametrize(
    "value",
    [
        *(10**308, -(2**1023), int(sys.float_info.max), "9" * 400, {"9" * 400: 1}, {10**400: 1}, {"1": 1, "01": 2}),
        *({1: 1, "2": 2}, {True: 1, "True": 2}, ['"1":', {"1": '"1":'}]),
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_value_that_only_looks_like_one_that_no_hub_takes_is_encoded(value: object) -> None:
    encoded = encode_data(value)
    assert strict_json.loads(encoded) == json.loads(encoded)


@pytest.mark.parametrize("value", [10**309, 2**1024 - 2**970, -(10**308)])
def test_integers_are_rejected_where_hubs_reject_them(value: int) -> None:
    try:
        strict_json.loads(str(value).encode())
    except BadRequest:
        with pytest.raises(BadData, match="too large for a double"):
            encode_data(value)
    else:
        assert encode_data(value) == str(value).encode()


def test_lazy_translation_becomes_its_text() -> None:
    # What gettext_lazy returns.
    assert encode_data({"status": lazystr("paid")}) == b'{"status":"paid"}'
    with pytest.raises(BadData, match=r"data.status has half of a surrogate"):
        encode_data({"status": lazystr("\ud800")})


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"name": SimpleLazyObject(lambda: "ann")}, r"data\.name: SimpleLazyObject"),
        ([1, LocalProxy(lambda: 3)], r"data\[1\]: LocalProxy"),
        ({"rows": SimpleLazyObject(lambda: [1])}, r"data\.rows: SimpleLazyObject"),
        ({SimpleLazyObject(lambda: "ann"): 1}, r"data has a key of type SimpleLazyObject"),
        # Its text would be a number in quotes, or Python's notation of a dict.
        ({"count": lazy(lambda: 5, int)()}, r"data\.count: __proxy__"),
    ],
)
def test_proxy_is_an_error_with_its_path(value: object, path: str) -> None:
    """`isinstance` takes it for what it stands for, and the encoder does not."""
    with pytest.raises(BadData, match=path):
        encode_data(value)
