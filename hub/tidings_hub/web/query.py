"""Query strings, pages of long lists, and the header `Prefer`.

In a query string each name may appear at most once, unknown names are errors, and each value has its documented form.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from werkzeug.datastructures import MultiDict

from tidings.errors import BadRequest
from tidings_hub.web.schemas import Schema

Value = TypeVar("Value")

_INTEGER = re.compile(r"[1-9][0-9]{0,8}\Z")
_BOOLEANS = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Parameter(Generic[Value]):
    """One name in a query string: its parser, its default, its schema and its description in the OpenAPI document."""

    name: str
    parse: Callable[[str], Value]
    default: Value
    schema: Schema
    description: str

    def value_in(self, args: MultiDict[str, str]) -> Value:
        """The value in `args`, or the default.

        Raises:
            CallerError: `parse` rejects the value.
        """
        text = args.get(self.name)
        return self.default if text is None else self.parse(text)


def check_names(args: MultiDict[str, str], parameters: tuple[Parameter[object], ...]) -> None:
    """Check that `args` has only the names of `parameters`, each at most once.

    Raises:
        BadRequest: an unknown name (a typing error must not be ignored), or a repeated one.
    """
    names = [parameter.name for parameter in parameters]
    for name, values in args.lists():
        if name not in names:
            raise BadRequest(f"unknown parameter {ascii(name)[:40]}; known are: {', '.join(names) or 'none'}")
        if len(values) > 1:
            raise BadRequest(f"the parameter {name} appears {len(values)} times; send it once")


def integer(name: str, *, maximum: int) -> Callable[[str], int]:
    """A parser of integers from 1 to `maximum`."""

    def parse(text: str) -> int:
        if not _INTEGER.match(text) or int(text) > maximum:
            raise BadRequest(f"{name} is a whole number from 1 to {maximum}")
        return int(text)

    return parse


def boolean(name: str) -> Callable[[str], bool]:
    """A parser of `true` and `false`."""

    def parse(text: str) -> bool:
        if text not in _BOOLEANS:
            raise BadRequest(f"{name} is true or false")
        return _BOOLEANS[text]

    return parse


def paginate(
    rows: Iterable[Mapping[str, Any]], key: str, *, after: str | None, limit: int
) -> tuple[list[Mapping[str, Any]], str | None]:
    """At most `limit` rows whose `key` is greater than `after`, in order, and the `after` of the next page.

    The second value is None on the last page. While other rows appear and disappear, a row that stays is on exactly one
    page.
    """
    later_rows = (row for row in rows if after is None or row[key] > after)
    smallest = heapq.nsmallest(limit + 1, later_rows, key=lambda row: row[key])
    has_more = len(smallest) > limit
    return smallest[:limit], str(smallest[limit - 1][key]) if has_more else None


def has_preference(values: Iterable[str], name: str) -> bool:
    """Whether the `Prefer` headers (RFC 7240) of a request contain the preference `name`, in lower case.

    Other preferences and parameters are ignored, as section 2 of the RFC requires.
    """
    return any(part.partition(";")[0].strip().lower() == name for value in values for part in value.split(","))
