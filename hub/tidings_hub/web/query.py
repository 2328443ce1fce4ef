"""Query strings: each name at most once, none that is unknown, each value of its documented form."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from werkzeug.datastructures import MultiDict

from tidings.errors import BadRequest
from tidings_hub.web.schemas import Schema

Value = TypeVar("Value")

_WHOLE = re.compile(r"[1-9][0-9]{0,8}\Z")
_BOOLEANS = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Parameter(Generic[Value]):
    """One name in a query string: how it is read, what it is when left out, and its schema."""

    name: str
    read: Callable[[str], Value]
    default: Value
    schema: Schema
    about: str

    def of(self, args: MultiDict[str, str]) -> Value:
        """The value in `args`.

        Raises:
            CallerError: what `read` says about a value of another form.
        """
        text = args.get(self.name)
        return self.default if text is None else self.read(text)


def check_names(args: MultiDict[str, str], known: tuple[Parameter[object], ...]) -> None:
    """Returns if `args` has only known names, each once.

    Raises:
        BadRequest: a name that is unknown (a slip of the pen would be ignored in silence), or twice.
    """
    names = [parameter.name for parameter in known]
    for name, values in args.lists():
        if name not in names:
            raise BadRequest(f"no parameter {ascii(name)[:40]} here; there are: {', '.join(names) or 'none'}")
        if len(values) > 1:
            raise BadRequest(f"the parameter {name} is given {len(values)} times")


def whole(name: str, *, most: int) -> Callable[[str], int]:
    """Reads a whole number from 1 to `most`."""

    def read(text: str) -> int:
        if not _WHOLE.match(text) or int(text) > most:
            raise BadRequest(f"{name} is a whole number from 1 to {most}")
        return int(text)

    return read


def boolean(name: str) -> Callable[[str], bool]:
    """Reads `true` or `false`."""

    def read(text: str) -> bool:
        if text not in _BOOLEANS:
            raise BadRequest(f"{name} is true or false")
        return _BOOLEANS[text]

    return read
