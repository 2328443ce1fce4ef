"""msgpack, the encoding of Socket.IO's Redis emitters; the only file that imports it (msgpack.org, PyPI `msgpack`)."""

from __future__ import annotations

from typing import Any, NoReturn

from tidings.errors import BadRequest, MissingExtra

# The library makes room for a list by the length that it claims, on each of at most 1,024 levels.
LIST_MAX = 8_192


def msgpack_module() -> Any:
    """The library, when it is first needed.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import msgpack
    except ImportError as error:
        raise MissingExtra("Socket.IO's Redis format needs msgpack: pip install 'tidings[socketio]'") from error
    return msgpack


def unpack(message: bytes) -> object:
    """The value in a message: null, booleans, numbers, text, bytes, lists and objects with names of text or bytes.

    Types of applications (ext), times among them, are refused, and lists of more than `LIST_MAX` entries.

    Raises:
        BadRequest: it is not one such value.
    """
    size = len(message)
    try:
        value: object = msgpack_module().unpackb(
            message,
            raw=False,
            strict_map_key=True,
            ext_hook=_no_ext,
            max_str_len=size,
            max_bin_len=size,
            max_array_len=min(size, LIST_MAX),
            max_map_len=size,
            max_ext_len=0,
        )
    except BadRequest:
        raise
    except (ValueError, TypeError, RecursionError) as error:
        # All errors of msgpack are of these, and so is text that is not UTF-8.
        raise BadRequest(f"the message is not msgpack: {type(error).__name__}") from error
    return value


def _no_ext(code: int, _: bytes) -> NoReturn:
    raise BadRequest(f"the message has a value of type ext {code}, which JSON cannot say")


def pack(value: object) -> bytes:
    """The message that says `value`.

    Raises:
        BadRequest: a number that msgpack cannot say.
    """
    try:
        packed: bytes = msgpack_module().packb(value, use_bin_type=True)
    except (OverflowError, ValueError) as error:
        raise BadRequest(f"msgpack cannot say this: {error}") from error
    return packed
