"""msgpack, the encoding of Socket.IO's Redis emitters (msgpack.org). The only file that imports `msgpack`."""

from __future__ import annotations

from functools import cache
from typing import Any, NoReturn

from tidings.drivers import load_driver
from tidings.errors import BadRequest


@cache
def msgpack_module() -> Any:
    """The library, imported at first use.

    Raises:
        MissingExtra: it is not installed.
    """
    missing = "Socket.IO's Redis format needs msgpack: pip install 'tidings[socketio]'"
    return load_driver("msgpack", missing, _load_msgpack)


def _load_msgpack() -> Any:
    import msgpack

    return msgpack


def unpack(message: bytes) -> object:
    """The value in a message: null, booleans, numbers, text, bytes, lists, and objects whose names are text or bytes.

    Extension types, such as timestamps, are rejected.

    Raises:
        BadRequest: the message is not one such value.
    """
    size, module = len(message), msgpack_module()
    limits: dict[str, int] = dict.fromkeys(("max_str_len", "max_bin_len", "max_array_len", "max_map_len"), size)
    try:
        # The library allocates each list by the length that the message claims: 12 KB could claim 64 MB. It does not
        # while it skips a value, and only if all entries are there it has a value to skip.
        unpacker = module.Unpacker(max_buffer_size=size, **limits)
        unpacker.feed(message)
        unpacker.skip()
        value: object = module.unpackb(
            message, raw=False, strict_map_key=True, ext_hook=_no_ext, max_ext_len=0, **limits
        )
    except BadRequest:
        raise
    except (ValueError, TypeError, RecursionError, module.OutOfData) as error:
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
