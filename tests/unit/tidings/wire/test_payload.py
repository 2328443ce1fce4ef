from __future__ import annotations

import enum
import json
import time
from datetime import UTC, date, datetime
from datetime import time as clock
from decimal import Decimal
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest

from support.vectors import examples
from tidings.errors import BadData, TooLarge
from tidings.wire.payload import MAX_DEPTH, encode_data


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
        ({(1, 2): 3}, "tuple"),
    ],
)
def test_unrepresentable_value_is_named_by_its_path(value: object, path: str) -> None:
    with pytest.raises(BadData) as caught:
        encode_data(value)
    assert path in str(caught.value)


def test_nesting_has_a_limit() -> None:
    def nested(depth: int) -> list[Any]:
        value: list[Any] = []
        for _ in range(depth - 1):
            value = [value]
        return value

    assert json.loads(encode_data(nested(MAX_DEPTH))) == nested(MAX_DEPTH)
    for depth in (MAX_DEPTH + 2, 5_000, 100_000):
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


def test_no_control_character_is_left_raw() -> None:
    encoded = encode_data("".join(map(chr, range(32))))
    assert not set(encoded) & set(range(32))
