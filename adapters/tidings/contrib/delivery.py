"""What is told once something else is done: a batch that is sent after a commit or a response.

By then nothing can be taken back, and whoever waits should not learn that the work failed when only the telling did.
So an error goes to `on_error`, which has the last word: `log_error` (the default) writes one line at ERROR to the
logger `tidings`; `raise_error` raises it where the framework waits, out of `commit()` for example.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NoReturn

from tidings.batch import AsyncBatch, Batch, Collected
from tidings.errors import TidingsError

OnError = Callable[[TidingsError, Collected], object]

CHANNELS_SHOWN = 5
_logger = logging.getLogger("tidings")


def log_error(error: TidingsError, batch: Collected) -> None:
    """Log which channels were not told, and why."""
    failed = [
        channel
        for channel, result in zip(batch.channels, batch.results, strict=False)
        if isinstance(result, TidingsError)
    ]
    shown = [*dict.fromkeys(failed)][:CHANNELS_SHOWN]
    more = "" if len(shown) == len(set(failed)) else ", …"
    _logger.error("the work is done, but not told%s%s: %s", " to " * bool(shown) + ", ".join(shown), more, error)


def raise_error(error: TidingsError, _batch: Collected) -> NoReturn:
    """Raise the error."""
    raise error


def deliver(batch: Batch, on_error: OnError) -> None:
    """Send a batch; its error is `on_error`'s."""
    try:
        batch.send()
    except TidingsError as error:
        on_error(error, batch)


async def deliver_async(batch: AsyncBatch, on_error: OnError) -> None:
    """As `deliver`."""
    try:
        await batch.send()
    except TidingsError as error:
        on_error(error, batch)
