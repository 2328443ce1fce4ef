"""Long lists, page by page: in the order of their key, each page from the key after the last one."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from typing import Any


def page(
    rows: Iterable[Mapping[str, Any]], key: str, *, after: str | None, limit: int
) -> tuple[list[Mapping[str, Any]], str | None]:
    """At most `limit` rows whose `key` comes after `after`, and the key to go on from (None: no more).

    Stable while rows come and go: a row that stays is on exactly one page.
    """
    later = (row for row in rows if after is None or row[key] > after)
    found = heapq.nsmallest(limit + 1, later, key=lambda row: row[key])
    more = len(found) > limit
    return found[:limit], str(found[limit - 1][key]) if more else None
