"""What a backend may answer to a hook, read strictly: a word that is misspelt must not allow anything."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from tidings.errors import TidingsError, from_wire

_MESSAGE_MAX: Final = 500


class BadHookResponse(ValueError):
    """An answer that is not of the documented form; the text says how."""


def read_connect(said: bytes) -> list[str]:
    """`{"channels": ["orders:7"]}`: what the connection gets beside what it asks for.

    Raises:
        BadAnswer: not of this form. TidingsError: the refusal in it.
    """
    channels = _object(said, "channels").get("channels", [])
    if not isinstance(channels, list) or not all(isinstance(name, str) for name in channels):
        raise BadHookResponse("channels must be a list of strings")
    return channels


def read_subscribe(said: bytes, asked: Sequence[str]) -> dict[str, TidingsError]:
    """`{"channels": {"orders:7": {"error": {…}}}}`: those that are refused.

    Raises:
        BadAnswer: not of this form. TidingsError: the refusal of all.
    """
    channels = _object(said, "channels").get("channels", {})
    if not isinstance(channels, dict) or not channels.keys() <= set(asked):
        raise BadHookResponse("channels must be an object of channels that were asked about")
    refused: dict[str, TidingsError] = {}
    for name, answer in channels.items():
        if not isinstance(answer, dict) or answer.keys() - {"error"}:
            raise BadHookResponse(f'{name} is answered with {{}} or {{"error": {{"code", "message"}}}}')
        if "error" in answer:
            refused[name] = _error(answer["error"])
    return refused


def read_publish(said: bytes) -> None:
    """`{}`: it may.

    Raises:
        BadAnswer: not of this form. TidingsError: the refusal in it.
    """
    _object(said)


def _object(said: bytes, *names: str) -> dict[str, Any]:
    try:
        answer = json.loads(said) if said.strip() else {}
    except (ValueError, RecursionError):
        raise BadHookResponse("it is not JSON") from None
    if not isinstance(answer, dict):
        raise BadHookResponse("it is not an object")
    unknown = answer.keys() - {"error", *names}
    if unknown:
        raise BadHookResponse(f"unknown: {', '.join(sorted(unknown))[:100]}")
    if "error" in answer:
        raise _error(answer["error"])
    return answer


def _error(given: object) -> TidingsError:
    if not isinstance(given, dict) or given.keys() - {"code", "message"}:
        raise BadHookResponse('an error is {"code", "message"}')
    code, message = given.get("code"), given.get("message", "")
    if not isinstance(code, str) or not isinstance(message, str) or len(message) > _MESSAGE_MAX:
        raise BadHookResponse(f"code and message are strings, the message of at most {_MESSAGE_MAX} characters")
    error = from_wire(code, message)
    if error.code.name != code:
        raise BadHookResponse("a code that is not in PROTOCOL.md section 4")
    return error
