"""Decisions about entries of a stream: which ones are stored together, and which can never be stored. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tidings.errors import BadRequest, Internal, TidingsError
from tidings.wire.notification import Notification, decode
from tidings_notifications.intake.stream import Entry

# An entry that was delivered so often was perhaps the reason why the service died: it is stored alone.
ALONE_FROM: Final = 3
# Then it is dead-lettered. A service that is killed often, for another reason, needs some attempts.
DELIVERIES_MAX: Final = 20


def read_entry(entry: Entry, *, max_bytes: int) -> Notification | TidingsError:
    """The notification in an entry, or the error that explains why it can never be stored.

    `max_bytes`: the setting `publication_max_bytes`, since an event has the notification in it.
    """
    if entry.deliveries > DELIVERIES_MAX:
        return Internal(f"the service ended {entry.deliveries} times before it was stored")
    if entry.body is None:
        return BadRequest("the entry has no field n")
    try:
        return decode(entry.body, max_bytes=max_bytes)
    except TidingsError as error:
        return error


def group_entries(entries: Sequence[Entry]) -> list[list[Entry]]:
    """The entries in order, in groups that are stored in one transaction each."""
    groups: list[list[Entry]] = []
    is_open = False
    for entry in entries:
        is_suspect = entry.deliveries >= ALONE_FROM
        if is_open and not is_suspect:
            groups[-1].append(entry)
        else:
            groups.append([entry])
        is_open = not is_suspect
    return groups
