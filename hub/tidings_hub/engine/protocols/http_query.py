"""Parse the query string of Engine.IO and event stream requests."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    from tidings_hub.engine.protocols.http_request import RequestHead

_FIELDS_MAX = 50
_SINGLE_FIELDS = ("EIO", "transport", "sid")


def parse_query(head: RequestHead) -> dict[str, str] | None:
    """Return the first value of each query field.

    None: the query is malformed, has too many fields, or repeats a field that Engine.IO defines.
    """
    text = head.query
    if "%" in text or "+" in text or text.count("&") >= _FIELDS_MAX:
        try:
            pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=_FIELDS_MAX)
        except ValueError:
            return None
    else:
        # Every poll of a client has this form. Nothing must be decoded, which makes it three times as fast.
        pairs = [(name, value) for name, _, value in [field.partition("=") for field in text.split("&")] if name]
    query: dict[str, str] = {}
    for name, value in pairs:
        if name in query and name in _SINGLE_FIELDS:
            return None
        query.setdefault(name, value)
    return query
