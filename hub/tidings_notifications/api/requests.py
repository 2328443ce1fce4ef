"""What requests of nodes contain."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from flask import Request

from tidings.errors import BadRequest
from tidings.wire.channels import user_channel

_BOOLEANS = {"true": True, "false": False}
# A number with more digits is none that a page can have.
_DIGITS_MAX = 9


def json_object(request: Request) -> dict[str, object]:
    """The object in the body, whose size the server has checked.

    Raises:
        BadRequest: it is no JSON object.
    """
    try:
        body = json.loads(request.get_data(cache=False))
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the body is not JSON: {error}"[:200]) from error
    if not isinstance(body, dict):
        raise BadRequest("the body is not a JSON object")
    return body


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of a request. Each is read once; `finish` rejects those that no one has read."""

    values: dict[str, object]

    def take(self, name: str) -> object:
        """A value, or None if there is none."""
        return self.values.pop(name, None)

    def user(self) -> str:
        """The user.

        Raises:
            BadChannel: there is none, or it cannot be a user.
        """
        return user_channel(self.take("user")).partition(":")[2]

    def optional_text(self, name: str) -> str | None:
        """A text, or None.

        Raises:
            BadRequest: it is something else.
        """
        value = self.take(name)
        if value is None or isinstance(value, str):
            return value
        raise BadRequest(f"{name} must be text")

    def boolean(self, name: str) -> bool:
        """A boolean, of JSON or of a query. Without it False.

        Raises:
            BadRequest: it is something else.
        """
        value = self.take(name)
        value = _BOOLEANS.get(value, value) if isinstance(value, str) else value
        if value is None or isinstance(value, bool):
            return bool(value)
        raise BadRequest(f"{name} must be true or false")

    def number(self, name: str, default: int) -> int:
        """A whole number of a query.

        Raises:
            BadRequest: it is something else.
        """
        value = self.take(name)
        if value is None:
            return default
        if not isinstance(value, str) or not (value.isascii() and value.isdigit() and len(value) <= _DIGITS_MAX):
            raise BadRequest(f"{name} must be a whole number")
        return int(value)

    def finish(self) -> None:
        """Reject further fields.

        Raises:
            BadRequest: there is one.
        """
        for name in self.values:
            raise BadRequest(f"unknown field {name!a:.60}")


def query_fields(arguments: Mapping[str, str]) -> Fields:
    """The fields of a query."""
    return Fields(dict(arguments.items()))
