"""From the JSON that a caller sent to a model, or to the error that says what is wrong with it."""

from __future__ import annotations

from typing import TypeVar

from pydantic import ValidationError

from tidings.errors import BadRequest
from tidings_hub.web.models import Asked

_SHOWN = 60
_Asked = TypeVar("_Asked", bound=Asked)


def validated(model: type[_Asked], value: object) -> _Asked:
    """`value` as a `model`.

    Raises:
        CallerError: the error of the first wrong name, or BadRequest naming the first wrong field.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ascii(".".join(str(step) for step in first["loc"]))[1:-1][:_SHOWN]
        raise BadRequest(f"{where}: {first['msg']}" if where else first["msg"]) from error
