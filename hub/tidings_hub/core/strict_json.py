"""A strict JSON parser: RFC 8259, and only values that every recipient can read. Python's own parser accepts more.

Rejected are:

- NaN and Infinity (RFC 8259 section 6)
- numbers that a double cannot hold, which JavaScript would read as Infinity
- the same name twice in an object (section 4: "unpredictable")
- a byte order mark (section 8.1), and anything that is not UTF-8
- half of a surrogate pair
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from typing import NoReturn

from tidings.errors import BadRequest

# The largest double has 309 digits, and so have larger numbers.
_DIGITS_MAX = 309
# Characters of a name in a message.
_SHOWN_MAX = 50
_HALF_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")


def loads(body: bytes) -> object:
    """The value of `body`.

    Raises:
        BadRequest: it is not JSON in UTF-8, or contains one of the above; the message names it.
    """
    try:
        value: object = json.loads(
            body.decode("utf-8"),
            parse_constant=_reject_constant,
            parse_float=_finite_float,
            parse_int=_bounded_int,
            object_pairs_hook=_unique_names,
        )
        # Only an escape sequence can contain half a pair, so only bodies with one need the second check.
        if _HALF_PAIR.search(body):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except BadRequest:
        raise
    except UnicodeDecodeError as error:
        raise BadRequest(f"the body is not UTF-8: byte {error.start} does not fit") from error
    except UnicodeEncodeError as error:
        raise BadRequest("the body holds half of a surrogate pair, which UTF-8 cannot encode") from error
    except RecursionError as error:
        raise BadRequest("the body is nested too deeply") from error
    except json.JSONDecodeError as error:
        raise BadRequest(f"the body is not JSON: {error.msg} at character {error.pos}") from error
    return value


def _reject_constant(name: str) -> NoReturn:
    raise BadRequest(f"{name} is not JSON; send null or a string")


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise BadRequest("a number is too large for a double; send it as a string")
    return value


def _bounded_int(text: str) -> int:
    if len(text) >= _DIGITS_MAX:
        _finite_float(text)
    return int(text)


def _unique_names(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) != len(pairs):
        # In linear time: an object can have 100,000 names, and the event loop waits.
        counts = Counter(name for name, _ in pairs)
        duplicate = next(name for name, count in counts.items() if count > 1)
        raise BadRequest(f"an object has the name {duplicate[:_SHOWN_MAX]!a} twice")
    return value
