"""Reading the response of a backend to a hook, strictly: a misspelt field must not allow anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from tidings.errors import BadRequest, TidingsError, from_wire
from tidings_hub.core import strict_json

_MESSAGE_MAX: Final = 500


class BadHookResponse(ValueError):
    """A response that does not have the documented form. The text states the difference."""


def read_connect(response: bytes) -> list[str]:
    """`{"channels": ["orders:7"]}`: channels that the connection gets beside those it requests.

    Raises:
        BadHookResponse: not of this form. TidingsError: the refusal in it.
    """
    channels = _object(response, "channels").get("channels", [])
    if not isinstance(channels, list) or not all(isinstance(name, str) for name in channels):
        raise BadHookResponse("channels must be a list of strings")
    return channels


def read_subscribe(response: bytes, requested: Sequence[str]) -> dict[str, TidingsError]:
    """`{"channels": {"orders:7": {"error": {…}}}}`: the refused channels.

    Raises:
        BadHookResponse: not of this form. TidingsError: the refusal of all.
    """
    channels = _object(response, "channels").get("channels", {})
    if not isinstance(channels, dict) or not channels.keys() <= set(requested):
        raise BadHookResponse("channels must be an object whose keys are requested channels")
    refused: dict[str, TidingsError] = {}
    for name, answer in channels.items():
        if not isinstance(answer, dict) or answer.keys() - {"error"}:
            raise BadHookResponse(f'{name} is answered with {{}} or {{"error": {{"code", "message"}}}}')
        if "error" in answer:
            refused[name] = _error(answer["error"])
    return refused


def read_publish(response: bytes) -> None:
    """`{}`: the client may publish.

    Raises:
        BadHookResponse: not of this form. TidingsError: the refusal in it.
    """
    _object(response)


def _object(response: bytes, *names: str) -> dict[str, Any]:
    try:
        # Of a name that is there twice Python would use the last one, also where the first one is the refusal.
        answer = strict_json.loads(response) if response.strip() else {}
    except BadRequest as error:
        raise BadHookResponse(str(error)) from None
    if not isinstance(answer, dict):
        raise BadHookResponse("it is not an object")
    unknown = answer.keys() - {"error", *names}
    if unknown:
        raise BadHookResponse(f"unknown: {', '.join(sorted(unknown))[:100]}")
    if "error" in answer:
        raise _error(answer["error"])
    return answer


def _error(error: object) -> TidingsError:
    if not isinstance(error, dict) or error.keys() - {"code", "message"}:
        raise BadHookResponse('an error is {"code", "message"}')
    code, message = error.get("code"), error.get("message", "")
    if not isinstance(code, str) or not isinstance(message, str) or len(message) > _MESSAGE_MAX:
        raise BadHookResponse(f"code and message are strings, the message of at most {_MESSAGE_MAX} characters")
    refusal = from_wire(code, message)
    if refusal.code.name != code:
        raise BadHookResponse("a code that is not in PROTOCOL.md section 4")
    return refusal
