"""What is in an outbox: how many rows wait, in which channels, and which ones are dead-lettered."""

from __future__ import annotations

import time
from collections.abc import Iterator

from tidings.contrib.outbox.store import OutboxStore, open_engine
from tidings.contrib.outbox.table import NAME, sqlalchemy_module
from tidings.errors import Unavailable

# Channels, and dead letters, that are shown.
SHOWN = 20
_REASON_MAX = 200


def status_lines(url: str, *, table: str = NAME) -> list[str]:
    """The state of an outbox, in one line per channel that waits and per dead letter, at most `SHOWN` of each.

    The channel with the oldest row comes first. Only it and the relay's log show what blocks a channel: the relay does
    not write temporary errors into the table.

    Raises:
        BadConfig: an invalid URL or name, or the table does not exist. Unavailable: the database failed.
    """
    engine = open_engine(url)
    try:
        store = OutboxStore(engine, table, publication_max_bytes=1)
        store.check()
        return list(_lines(store))
    except sqlalchemy_module().exc.SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).strip().partition("\n")[0][:300]
        raise Unavailable(f"the database failed: {reason}") from error
    finally:
        engine.dispose()


def _lines(store: OutboxStore) -> Iterator[str]:
    now_s, lag = time.time(), store.lag()
    yield f"waiting={lag.waiting} oldest_s={lag.oldest_s(now_s):.1f} failed={lag.failed}"
    for channel, of_channel, row_no, attempts in store.waiting_channels(SHOWN):
        age = f" oldest_s={of_channel.oldest_s(now_s):.1f}"
        yield f"channel={channel} waiting={of_channel.waiting} first_row={row_no}{age} attempts={attempts}"
    for row_no, channel, reason in store.dead_letters(SHOWN):
        yield f"failed row_no={row_no} channel={channel}: {reason[:_REASON_MAX]}"
