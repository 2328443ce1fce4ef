"""A row of the outbox, and how it becomes a publication: no database, no I/O."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from tidings.errors import BadData, BadEvent, TooLarge
from tidings.publishers.base import OutgoingPublication
from tidings.wire.channels import check_channel, check_id
from tidings.wire.payload import encode_data
from tidings.wire.publication import encode_body

# Data that another language wrote may have white space; what is longer than that is not even read.
SPACIOUS = 4


@dataclass(frozen=True, slots=True)
class Row:
    """One row as a relay reads it; `data` is None where it was too large to be read. Nothing of it is checked."""

    row_no: int
    id: object
    channel: str
    event: object
    data: str | None
    at_ms: int | None


def columns_of(items: Iterable[OutgoingPublication]) -> list[dict[str, object]]:
    """The columns of one row per publication, from what the emitters would send."""
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
    """What a relay publishes for a row. Every row is checked: any program may have written it.

    `keep_s`: seconds that the broker is to remember the id. `now_ms` is the publication's time where the row has none.

    Raises:
        BadChannel, BadEvent, BadData, BadId, TooLarge: it cannot be published.
    """
    if row.data is None:
        raise TooLarge(f"data of more than {SPACIOUS * publication_max_bytes} characters")
    if not isinstance(row.event, str):
        raise BadEvent("the event is not text")
    try:
        data = json.loads(row.data)
    except (ValueError, RecursionError) as error:
        raise BadData(f"the data is not JSON: {error}") from error
    id_, at_ms = check_id(row.id), now_ms if row.at_ms is None or row.at_ms < 0 else row.at_ms
    body = encode_body(row.event, encode_data(data, max_bytes=publication_max_bytes), id=id_, at_ms=at_ms)
    return OutgoingPublication(check_channel(row.channel), body, id_, keep_s)
