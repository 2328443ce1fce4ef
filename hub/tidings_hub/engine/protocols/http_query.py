"""Parse the query string of Engine.IO and event stream requests."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    from tidings_hub.engine.protocols.http_request import RequestHead

_FIELDS_MAX = 50
_SINGLE_FIELDS = ("EIO", "transport", "sid")
# HTTP clients write a list as one field per entry: `params={"channels": [a, b]}` of `requests`.
_LIST_FIELDS = ("channels", "presence")


def parse_query(head: RequestHead) -> dict[str, str] | None:
    """Return the first value of each query field; lists that are repeated are joined with commas.

    Do not modify the result, which `head` keeps.

    None: the query is malformed, has too many fields, or repeats a field that Engine.IO defines.
    """
    if head.query_fields is not None:
        return head.query_fields
    text = head.query
    if "%" in text or "+" in text or text.count("&") >= _FIELDS_MAX:
        try:
            pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=_FIELDS_MAX)
        except ValueError:
            return None
    else:
        # Every poll of a client has this form. Nothing must be decoded, which makes it three times as fast.
        pairs = [(name, value) for name, _, value in [field.partition("=") for field in text.split("&")] if name]
    query = dict(pairs)
    if len(query) != len(pairs):
        return _merge(head, pairs)
    head.query_fields = query
    return query


def _merge(head: RequestHead, pairs: list[tuple[str, str]]) -> dict[str, str] | None:
    """`parse_query` of a query that repeats fields."""
    query: dict[str, str] = {}
    for name, value in pairs:
        if name in query and name in _SINGLE_FIELDS:
            return None
        if name in query and name in _LIST_FIELDS:
            query[name] += f",{value}"
        query.setdefault(name, value)
    head.query_fields = query
    return query
