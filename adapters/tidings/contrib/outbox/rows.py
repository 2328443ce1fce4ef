"""A row of the outbox, and its conversion to a publication or notification. No database, no I/O.

The row of a notification has the user's own channel and the event `tidings:notify`. Its data is the notification
without `user`, `id` and `at_ms`, which are columns.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from tidings.errors import BadChannel, BadData, BadEvent, TooLarge
from tidings.publishers.base import Outgoing, OutgoingNotification, OutgoingPublication
from tidings.wire.channels import INBOX_EVENTS, check_channel, check_id
from tidings.wire.notification import ROW_EVENT, read_notification
from tidings.wire.payload import encode_data
from tidings.wire.publication import encode_body, encode_inbox_body

# Data written by another language may contain white space. Data longer than this many times the limit is not read.
WHITESPACE_FACTOR = 4
_USER = "user:"
# Fields of a notification that have a column of their own.
_COLUMNS = frozenset({"user", "id", "at_ms"})


@dataclass(frozen=True, slots=True)
class Row:
    """One unchecked row. `data` is None if it was too large to read. `attempts`: how often the hub refused it."""

    row_no: int
    id: object
    channel: str
    event: object
    data: str | None
    at_ms: object
    attempts: object = 0


def columns_of(items: Iterable[Outgoing]) -> list[dict[str, object]]:
    """The columns of one row per publication or notification."""
    rows: list[dict[str, object]] = []
    for item in items:
        if isinstance(item, OutgoingNotification):
            notification = item.notification
            data = notification.encode_row().decode()
            head = {"id": item.id, "channel": item.channel, "event": ROW_EVENT}
            rows.append({**head, "data": data, "at_ms": notification.at_ms})
            continue
        id_, at_ms, _, event_bytes, fragment = item.body.split(b" ", 4)
        size = int(event_bytes)
        rows.append(
            {
                "id": id_.decode(),
                "channel": item.channel,
                "event": json.loads(fragment[:size]),
                "data": fragment[size + 1 :].decode(),
                "at_ms": int(at_ms),
            }
        )
    return rows


def item_of(row: Row, *, keep_s: int, now_ms: int, publication_max_bytes: int, inbox_events: bool = False) -> Outgoing:
    """The publication or notification in a row. Every column is checked: any program may have written the row.

    `keep_s`: seconds for which the broker remembers the id. `now_ms`: the time of a row that has none.
    `inbox_events`: accept those of a user's inbox (`INBOX_EVENTS`), in the outbox of the notification service.

    Raises:
        BadChannel, BadEvent, BadData, BadId, BadRequest, TooLarge: the row cannot be published.
    """
    if row.data is None:
        raise TooLarge(f"data of more than {WHITESPACE_FACTOR * publication_max_bytes} characters")
    if not isinstance(row.event, str):
        raise BadEvent("the event is not text")
    try:
        data = json.loads(row.data, object_pairs_hook=_unique_names)
    except BadData:
        raise
    except (ValueError, RecursionError) as error:
        raise BadData(f"the data is not JSON: {error}") from error
    # SQLite stores any type in any column.
    if not isinstance(row.at_ms, int | None):
        raise BadData("at_ms is not a whole number")
    id_, at_ms = check_id(row.id), now_ms if row.at_ms is None or row.at_ms < 0 else row.at_ms
    if row.event == ROW_EVENT:
        return _notification(row.channel, data, id_, at_ms, publication_max_bytes)
    encode = encode_inbox_body if inbox_events and row.event in INBOX_EVENTS else encode_body
    body = encode(row.event, encode_data(data, max_bytes=publication_max_bytes), id=id_, at_ms=at_ms)
    return OutgoingPublication(check_channel(row.channel), body, id_, keep_s)


def _notification(channel: str, data: object, id: str, at_ms: int, publication_max_bytes: int) -> OutgoingNotification:
    if not channel.startswith(_USER):
        raise BadChannel(f"the channel of a notification is {_USER}<user>")
    if not isinstance(data, dict) or data.keys() & _COLUMNS:
        raise BadData(f"the data of a notification is an object without {', '.join(sorted(_COLUMNS))}")
    fields = {**data, "user": channel.removeprefix(_USER), "id": id, "at_ms": at_ms}
    return OutgoingNotification(read_notification(fields, max_bytes=publication_max_bytes))


def _unique_names(pairs: list[tuple[str, object]]) -> dict[str, object]:
    names = dict(pairs)
    if len(names) != len(pairs):
        raise BadData("the data has an object with the same name twice")
    return names
