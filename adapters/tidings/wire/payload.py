"""Data as JSON: how values are encoded, and which are errors (PROTOCOL.md section 3).

Besides JSON's own types: datetime, date and time become ISO 8601 text (an aware UTC time ends in `+00:00`), UUID and
Decimal become text, an Enum its value, a tuple a list. `push_model` encodes dataclasses and models. Bytes, sets, NaN
and cycles are errors, and the message has the path.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from uuid import UUID

from tidings.errors import BadData, TooLarge

MAX_BYTES = 65_536
# The parsers of Python and of browsers go deeper. Real data does not.
MAX_DEPTH = 64


def encode_data(data: object, *, max_bytes: int = MAX_BYTES) -> bytes:
    """`data` as compact UTF-8 JSON of at most `max_bytes` bytes.

    Raises:
        BadData: a value that JSON cannot represent; the message has its path, as in
            `data.items[3].price`.
        TooLarge: the encoded form is longer than `max_bytes`.
    """
    try:
        # Nearly all data is plain, so the C encoder runs first. It accepts subclasses of int and str, so also enums,
        # and raises for NaN and cycles.
        text = _encode(data)
        encoded = text.encode()
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        _explain(data, "data", [])
        raise BadData(f"JSON cannot represent the data: {error}") from error
    if text.count("[") + text.count("{") > MAX_DEPTH:
        check_depth(data)
    if len(encoded) > max_bytes:
        raise TooLarge(f"data of {len(encoded)} bytes; publication_max_bytes allows {max_bytes}")
    return encoded


def _simple(value: object) -> object:
    """The JSON form of a value that is not of a JSON type."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, UUID | Decimal):
        if isinstance(value, Decimal) and not value.is_finite():
            raise ValueError(f"{value} is not a finite number")
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


# json.dumps would create an encoder per call.
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_simple).encode


def _children(value: object) -> list[tuple[str, object]]:
    if isinstance(value, Mapping):
        return [(f".{key}", item) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return [(f"[{index}]", item) for index, item in enumerate(value)]
    return []


def _explain(value: object, path: str, above: list[int]) -> None:
    """Raise the BadData that names the first offending value, depth first."""
    if id(value) in above:
        raise BadData(f"{path} contains itself")
    if len(above) > MAX_DEPTH:
        raise BadData(f"{path} is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, float) and not math.isfinite(value):
        raise BadData(f"{path} is {value}, which JSON cannot represent; send null or a string")
    if isinstance(value, str) and any("\ud800" <= sign <= "\udfff" for sign in value):
        raise BadData(f"{path} has half of a surrogate pair, which UTF-8 cannot represent")
    if isinstance(value, Mapping):
        _explain_keys(value, path)
    children = _children(value)
    for step, item in children:
        _explain(item, path + step, [*above, id(value)])
    if not children and not isinstance(value, str | int | float | bool | None | Mapping | list | tuple):
        try:
            simple = _simple(value)
        except (TypeError, ValueError) as error:
            hint = {"bytes": "; send base64 text", "set": "; send a sorted list"}.get(type(value).__name__, "")
            raise BadData(f"{path}: {error}{hint}") from error
        _explain(simple, path, [*above, id(value)])


def _explain_keys(value: Mapping[object, object], path: str) -> None:
    for key in value:
        if not isinstance(key, str | int | float | bool | None):
            raise BadData(f"{path} has a key of type {type(key).__name__}; JSON's keys are strings")
        if isinstance(key, str):
            _explain(key, f"{path} (a key)", [])


def check_depth(data: object) -> None:
    """Check that `data`, parsed from JSON, is nested at most `MAX_DEPTH` levels deep.

    Raises:
        BadData: it is nested deeper.
    """
    _check_depth(data, "data", 0)


def _check_depth(value: object, path: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise BadData(f"{path} is nested deeper than {MAX_DEPTH} levels")
    for step, item in _children(value):
        _check_depth(item, path + step, depth + 1)
