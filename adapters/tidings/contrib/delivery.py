"""Sending a batch after a commit or a response, and handling its errors.

By then the work is done and cannot be undone. A failed push must not look like failed work, so the error is passed to
`on_error`. `log_error` (the default) writes one line at ERROR to the logger `tidings`. `raise_error` raises the error
in the framework's call, for example out of `commit()`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NoReturn

from tidings.batch import AsyncBatch, Batch, Collected
from tidings.errors import BadConfig, Internal, TidingsError

OnError = Callable[[TidingsError, Collected], object]

CHANNELS_SHOWN = 5
TEXT_MAX = 300
_logger = logging.getLogger("tidings")


def check_on_error(on_error: object) -> None:
    """Check that `on_error` can be called: after the work it is too late for an error.

    Raises:
        BadConfig: it cannot.
    """
    if not callable(on_error):
        raise BadConfig(f"on_error is a function of an error and a batch, not a {type(on_error).__name__}")


def log_error(error: TidingsError, batch: Collected) -> None:
    """Log the error and the channels that were not published to."""
    failed = [
        channel
        for channel, result in zip(batch.channels, batch.results, strict=False)
        if isinstance(result, TidingsError)
    ]
    listed = [*dict.fromkeys(failed)][:CHANNELS_SHOWN]
    more = "" if len(listed) == len(set(failed)) else ", …"
    _logger.error(
        "the work is done, but it was not published%s%s: %s", " to " * bool(listed) + ", ".join(listed), more, error
    )


def raise_error(error: TidingsError, _batch: Collected) -> NoReturn:
    """Raise the error."""
    raise error


def after_work(error: Exception) -> TidingsError:
    """The error to pass to `on_error` for any exception after the work was done."""
    if isinstance(error, TidingsError):
        return error
    _logger.error("an unexpected exception after the work was done", exc_info=error)
    return Internal(f"{type(error).__name__} in the application's own code, or in tidings: {error}"[:TEXT_MAX])


def deliver(batch: Batch, on_error: OnError) -> None:
    """Send a batch. An error is passed to `on_error`."""
    try:
        batch.send()
    except Exception as error:  # noqa: BLE001
        on_error(after_work(error), batch)


async def deliver_async(batch: AsyncBatch, on_error: OnError) -> None:
    """As `deliver`, for an `AsyncBatch`."""
    try:
        await batch.send()
    except Exception as error:  # noqa: BLE001
        on_error(after_work(error), batch)
