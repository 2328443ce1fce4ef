"""A row of the outbox, and its conversion to a publication. No database, no I/O."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from tidings.errors import BadData, BadEvent, TooLarge
from tidings.publishers.base import OutgoingPublication
from tidings.wire.channels import check_channel, check_id
from tidings.wire.payload import encode_data
from tidings.wire.publication import encode_body

# Data written by another language may contain white space. Data longer than this many times the limit is not read.
WHITESPACE_FACTOR = 4


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


def columns_of(items: Iterable[OutgoingPublication]) -> list[dict[str, object]]:
    """The columns of one row per publication."""
    rows: list[dict[str, object]] = []
    for item in items:
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


def publication_of(row: Row, *, keep_s: int, now_ms: int, publication_max_bytes: int) -> OutgoingPublication:
    """The publication in a row. Every column is checked, because any program may have written the row.

    `keep_s`: seconds for which the broker remembers the id. `now_ms`: the publication's time if the row has none.

    Raises:
        BadChannel, BadEvent, BadData, BadId, TooLarge: the row cannot be published.
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
    body = encode_body(row.event, encode_data(data, max_bytes=publication_max_bytes), id=id_, at_ms=at_ms)
    return OutgoingPublication(check_channel(row.channel), body, id_, keep_s)


def _unique_names(pairs: list[tuple[str, object]]) -> dict[str, object]:
    names = dict(pairs)
    if len(names) != len(pairs):
        raise BadData("the data has an object with the same name twice")
    return names
