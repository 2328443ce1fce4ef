"""msgpack, the encoding of Socket.IO's Redis emitters (msgpack.org). The only file that imports `msgpack`."""

from __future__ import annotations

from typing import Any, NoReturn

from tidings.errors import BadRequest, MissingExtra

# The library allocates a list by the length that the message claims, on each of at most 1,024 levels.
LIST_MAX = 8_192


def msgpack_module() -> Any:
    """The library, imported at first use.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import msgpack
    except ImportError as error:
        raise MissingExtra("Socket.IO's Redis format needs msgpack: pip install 'tidings[socketio]'") from error
    return msgpack


def unpack(message: bytes) -> object:
    """The value in a message: null, booleans, numbers, text, bytes, lists, and objects whose names are text or bytes.

    Extension types, such as timestamps, and lists of more than `LIST_MAX` entries are rejected.

    Raises:
        BadRequest: the message is not one such value.
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
        # All errors of msgpack are subclasses of these; so is the error for text that is not UTF-8.
        raise BadRequest(f"the message is not msgpack: {type(error).__name__}") from error
    return value


def _no_ext(code: int, _: bytes) -> NoReturn:
    raise BadRequest(f"the message has a value of type ext {code}, which JSON cannot represent")


def pack(value: object) -> bytes:
    """The message of `value`.

    Raises:
        BadRequest: a number that msgpack cannot represent.
    """
    try:
        packed: bytes = msgpack_module().packb(value, use_bin_type=True)
    except (OverflowError, ValueError) as error:
        raise BadRequest(f"msgpack cannot represent this: {error}") from error
    return packed
