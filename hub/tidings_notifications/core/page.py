"""A page of an inbox: newest first, by key."""

from __future__ import annotations

import json
from dataclasses import dataclass

from tidings.errors import BadRequest
from tidings_notifications.core.counts import InboxCounts
from tidings_notifications.core.events import full_item_of
from tidings_notifications.core.ids import is_id
from tidings_notifications.core.notification import StoredNotification

LIMIT = 30
LIMIT_MAX = 100
PAGE_MAX_BYTES = 1_000_000
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class PageQuery:
    """Which notifications of a user, at most `limit`. `before`: only those older than the one with this id.

    `max_bytes`: a page whose notifications are larger ends early, after at least one.

    Raises:
        BadRequest: `limit` or `before` is invalid.
    """

    category: str | None = None
    archived: bool = False
    unread: bool = False
    before: str | None = None
    limit: int = LIMIT
    max_bytes: int = PAGE_MAX_BYTES

    def __post_init__(self) -> None:
        check_before(self.before)
        _check_limit(self.limit)


@dataclass(frozen=True, slots=True)
class InboxPage:
    """One page. `next`: the `before` of the next page, None if this is the last one."""

    items: list[dict[str, object]]
    counts: dict[str, int]
    version: int
    next: str | None

    def to_wire(self) -> dict[str, object]:
        """The page as clients receive it."""
        return {"items": self.items, "counts": self.counts, "version": self.version, "next": self.next}


def page_of(rows: list[StoredNotification], counts: InboxCounts, query: PageQuery) -> InboxPage:
    """The page from up to `limit` + 1 rows."""
    items: list[dict[str, object]] = []
    left_bytes = query.max_bytes
    for row in rows[: query.limit]:
        item = full_item_of(row)
        left_bytes -= len(_encode(item).encode()) + 1
        if items and left_bytes < 0:
            break
        items.append(item)
    next_id = rows[len(items) - 1].id if len(rows) > len(items) else None
    return InboxPage(items, counts.to_wire(), counts.version, next_id)


def _check_limit(limit: object) -> None:
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= LIMIT_MAX:
        raise BadRequest(f"limit must be a number from 1 to {LIMIT_MAX}")


def check_before(before: object) -> str | None:
    """`before`, if it is the id of a notification or None.

    Raises:
        BadRequest: it is neither.
    """
    if before is not None and not is_id(before):
        raise BadRequest(f"before must be the id of a notification, not {before!a:.60}")
    return before if isinstance(before, str) else None
