"""Data as JSON: how values are encoded, and which are errors (PROTOCOL.md section 3).

Besides JSON's own types: datetime, date, time and timedelta become ISO 8601 text (an aware UTC time ends in `+00:00`).
UUID, Decimal and the addresses and networks of `ipaddress` become text, an Enum its value, a tuple a list, a lazy
translation its text. `push_model` encodes dataclasses and models. Bytes, sets, NaN, cycles, integers that no double can
hold, and keys that are equal as text are errors. The message has the path.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from itertools import accumulate
from uuid import UUID

from tidings.errors import BadData, TooLarge

MAX_BYTES = 65_536
# The parsers of Python and of browsers go deeper. Real data does not.
MAX_DEPTH = 64
_TOO_LARGE = "too large for a double, JavaScript's only number; send it as a string"
_SAME_TEXT = "two keys become the same text in JSON, as 1 and '1' do"
# Characters of a path in a message, and of one key in it.
_PATH_MAX = 300
_SHOWN_MAX = 60
_CONTAINERS = (dict, list, tuple, Mapping)
# Compared with `type`: `isinstance` takes a proxy for what it stands for, and the encoder does not.
_LISTS = (list, tuple)
_SCALARS = (str, int, float, type(None))
_HALF_PAIR = re.compile("[\ud800-\udfff]")
# The largest double has 309 digits, and so have larger numbers.
_DIGITS_MAX = 309
_THREE_DIGITS = re.compile("[0-9]{3}")
_LONG_NUMBER = re.compile(f"[0-9]{{{_DIGITS_MAX}}}")
# A key that may have been a number, a boolean or None.
_KEY_OF_OTHER_TYPE = re.compile(r'"(?:-?[0-9][0-9.e+-]*|true|false|null)":')
# Bits of the largest integer that Python converts to text.
_KEY_BITS_MAX = 14_000
_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEP = tuple(1 if byte == ord("[") else -1 for byte in range(256))
# Classes that become text, by module and name. They are not imported: an application that uses them has done that.
_LAZY_TEXTS = {
    ("django.utils.functional", "Promise"),
    ("flask_babel.speaklater", "LazyString"),
    ("babel.support", "LazyProxy"),
}
_TEXTS = _LAZY_TEXTS | {
    ("ipaddress", f"IPv{version}{kind}") for version in (4, 6) for kind in ("Address", "Network", "Interface")
}


def encode_data(data: object, *, max_bytes: int = MAX_BYTES, searched_max: int = sys.maxsize) -> bytes:
    """`data` as compact UTF-8 JSON of at most `max_bytes` bytes.

    Accepted data takes a few milliseconds per 64 KB, whatever it holds. `searched_max`: the values among which the path
    of an error is searched, each a microsecond or two. A hub limits them, because a client could repeat the error.

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
        _FaultSearch(searched_max).explain(data)
        raise BadData(f"JSON cannot represent the data: {error}") from error
    if len(encoded) > max_bytes:
        raise TooLarge(f"data of {len(encoded)} bytes; publication_max_bytes allows {max_bytes}")
    if is_too_deep(encoded):
        _FaultSearch(searched_max).explain(data)
        raise BadData(f"the data is nested deeper than {MAX_DEPTH} levels")
    # So many digits in a row contain three neighbours of these samples: most data needs no check.
    has_long_number = (
        len(text) >= _DIGITS_MAX and _THREE_DIGITS.search(text[:: _DIGITS_MAX // 3]) and _LONG_NUMBER.search(text)
    )
    if has_long_number or _KEY_OF_OTHER_TYPE.search(text):
        # Both may as well be part of a string.
        try:
            _FAULT_FINDER.decode(text)
        except BadData:
            _FaultSearch(searched_max).explain(data)
            raise
    return encoded


def is_too_deep(encoded: bytes) -> bool:
    """Whether valid JSON has more than `MAX_DEPTH` lists and objects within each other.

    Counts brackets instead of walking through the values, which takes ten times as long.
    """
    # Nothing is nested deeper than there are brackets.
    if encoded.count(b"[") + encoded.count(b"{") <= MAX_DEPTH:
        return False
    # What remains once escaped quotes are away has a string between each two quotes.
    unescaped = encoded.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in encoded else encoded
    brackets = b"".join(unescaped.split(b'"')[::2]).translate(_ONE_KIND, _NO_BRACKETS)
    # Without the innermost level there is much less to count.
    outer = brackets.replace(b"[]", b"")
    return 1 + max(accumulate(map(_STEP.__getitem__, outer)), default=0) > MAX_DEPTH


def _simple(value: object) -> object:
    """The JSON form of a value that is not of a JSON type."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return duration_text(value)
    if isinstance(value, UUID | Decimal):
        if isinstance(value, Decimal) and not value.is_finite():
            raise ValueError(f"{value} is not a finite number")
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    if any((base.__module__, base.__name__) in _TEXTS for base in type(value).__mro__) and not _is_other_lazy(value):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


def is_lazy_text(value: object) -> bool:
    """Whether this is a lazy translation, of which `str` makes the text."""
    return any((base.__module__, base.__name__) in _LAZY_TEXTS for base in type(value).__mro__) and not _is_other_lazy(
        value
    )


def _is_other_lazy(value: object) -> bool:
    """Whether this is the result of Django's `lazy` for another type than text. It has the methods of that type."""
    return type(value).__name__ == "__proxy__" and not hasattr(type(value), "encode")


def duration_text(duration: timedelta) -> str:
    """A duration as ISO 8601 text: `P1DT2H3M4.5S`, `-PT1S`."""
    seconds, microseconds = divmod(abs(duration) // timedelta(microseconds=1), 1_000_000)
    days, seconds = divmod(seconds, 86_400)
    fraction = f".{microseconds:06d}".rstrip("0").rstrip(".")
    parts = ((seconds // 3600, "H"), (seconds // 60 % 60, "M"), (f"{seconds % 60}{fraction}", "S"))
    clock = "".join(f"{part}{unit}" for part, unit in parts if part not in {0, "0"})
    text = (f"{days}D" if days else "") + (f"T{clock}" if clock else "")
    return ("-" if duration < timedelta() else "") + "P" + (text or "T0S")


# json.dumps would create an encoder per call.
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_simple).encode


class _Place(int):
    """A place in a list."""


# The way from the data to a value in it: keys of objects, and places in lists. It becomes text only for a message:
# otherwise a key of a megabyte above 100,000 values would be copied for each of them.
_Steps = list[object]


def _path(steps: _Steps) -> str:
    """The steps as text, as in `data.items[3].price`."""
    text = (f"[{step:d}]" if isinstance(step, _Place) else f".{str(step)[:_SHOWN_MAX]}" for step in steps)
    return ("data" + "".join(text))[:_PATH_MAX]


def _children(value: object) -> Iterable[tuple[object, object]]:
    if isinstance(value, Mapping):
        return value.items()
    if isinstance(value, list | tuple):
        return ((_Place(index), item) for index, item in enumerate(value))
    return ()


def _bounded_int(digits: str) -> int:
    value = int(digits)
    if abs(value) > sys.float_info.max:
        raise BadData(f"the data has an integer {_TOO_LARGE}")
    return value


def _unique_names(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise BadData(f"the data has an object in which {_SAME_TEXT}")
    return value


# Reads what was written, and raises BadData for what a recipient would read in another way.
_FAULT_FINDER = json.JSONDecoder(parse_int=_bounded_int, object_pairs_hook=_unique_names)


class _FaultSearch:
    """Raises the BadData that names the first offending value, depth first, if it is among `left` values."""

    def __init__(self, left: int) -> None:
        self._left = left
        self._steps: _Steps = []
        self._above: list[int] = []

    def explain(self, value: object) -> None:
        """Search in `value`. Returns if nothing was found.

        Raises:
            BadData: it names what was found.
        """
        self._left -= 1
        if self._left < 0:
            return
        if id(value) in self._above:
            raise BadData(f"{self._path()} contains itself")
        if len(self._above) > MAX_DEPTH or (len(self._above) == MAX_DEPTH and isinstance(value, _CONTAINERS)):
            raise BadData(f"{self._path()} is nested deeper than {MAX_DEPTH} levels")
        if isinstance(value, int | float):
            self._explain_number(value)
        if issubclass(type(value), str) and _HALF_PAIR.search(str(value)):
            raise BadData(f"{self._path()} has half of a surrogate pair, which UTF-8 cannot represent")
        if isinstance(value, Mapping):
            self._explain_keys(value)
        if isinstance(value, Mapping) or issubclass(type(value), _LISTS):
            self._explain_children(value)
        elif not issubclass(type(value), _SCALARS):
            self._explain_other(value)

    def _explain_children(self, value: object) -> None:
        self._above.append(id(value))
        for step, item in _children(value):
            if self._left <= 0:
                break
            self._steps.append(step)
            self.explain(item)
            self._steps.pop()
        self._above.pop()

    def _explain_other(self, value: object) -> None:
        try:
            simple = _simple(value)
        except (TypeError, ValueError) as error:
            hint = {"bytes": "; send base64 text", "set": "; send a sorted list"}.get(type(value).__name__, "")
            raise BadData(f"{self._path()}: {error}{hint}") from error
        self._above.append(id(value))
        self.explain(simple)
        self._above.pop()

    def _explain_number(self, value: float) -> None:
        if abs(value) <= sys.float_info.max:
            return
        if isinstance(value, int):
            raise BadData(f"{self._path()} is {_TOO_LARGE}")
        raise BadData(f"{self._path()} is {value}, which JSON cannot represent; send null or a string")

    def _explain_keys(self, value: Mapping[object, object]) -> None:
        names = set[str]()
        for key in value:
            self._left -= 1
            if self._left < 0:
                return
            if not issubclass(type(key), _SCALARS):
                raise BadData(f"{self._path()} has a key of type {type(key).__name__}; JSON's keys are strings")
            if isinstance(key, str) and _HALF_PAIR.search(key):
                raise BadData(f"{self._path()} (a key) has half of a surrogate pair, which UTF-8 cannot represent")
            if isinstance(key, float) and not math.isfinite(key):
                raise BadData(f"{self._path()} has the key {key}, which JSON cannot represent")
            if isinstance(key, int) and key.bit_length() > _KEY_BITS_MAX:
                raise BadData(f"{self._path()} has an integer of more than 4,000 digits as a key")
            # What JSON makes of the key: `1` becomes "1", `None` becomes "null".
            name = key if isinstance(key, str) else json.dumps(key)
            if name in names:
                raise BadData(f"{self._path(name)}: {_SAME_TEXT}")
            names.add(name)

    def _path(self, *last: object) -> str:
        return _path([*self._steps, *last])
