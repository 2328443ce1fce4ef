"""JSON as RFC 8259 has it and as every recipient can read it; Python's own parser takes more.

Refused: NaN and Infinity (RFC 8259 section 6), numbers that a double cannot hold (JavaScript would
read Infinity), one name twice in an object (section 4: "unpredictable"), a byte order mark
(section 8.1), anything but UTF-8, half of a surrogate pair.
"""

from __future__ import annotations

import json
import math
import re
from typing import NoReturn

from tidings.errors import BadRequest

# The largest double has 309 digits.
_DIGITS_MAX = 310
_HALF_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")


def loads(body: bytes) -> object:
    """The value that `body` says.

    Raises:
        BadRequest: it is not JSON in UTF-8, or one of the above; the message says which.
    """
    try:
        value: object = json.loads(
            body.decode("utf-8"),
            parse_constant=_no_constant,
            parse_float=_finite,
            parse_int=_short,
            object_pairs_hook=_once,
        )
        # Escapes alone can say half a pair; only then is the second look worth its time.
        if _HALF_PAIR.search(body):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except BadRequest:
        raise
    except UnicodeDecodeError as error:
        raise BadRequest(f"the body is not UTF-8: byte {error.start} does not fit") from error
    except UnicodeEncodeError as error:
        raise BadRequest("the body holds half of a surrogate pair, which UTF-8 cannot say") from error
    except RecursionError as error:
        raise BadRequest("the body is nested too deeply") from error
    except json.JSONDecodeError as error:
        raise BadRequest(f"the body is not JSON: {error.msg} at character {error.pos}") from error
    return value


def _no_constant(name: str) -> NoReturn:
    raise BadRequest(f"{name} is not JSON; send null or a string")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise BadRequest("a number is too large for a double; send it as a string")
    return value


def _short(text: str) -> int:
    if len(text) >= _DIGITS_MAX:
        raise BadRequest("a number is too large for a double; send it as a string")
    return int(text)


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise BadRequest(f"an object has the name {ascii(twice)[:60]} twice")
    return found
