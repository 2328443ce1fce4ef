"""Errors of databases as errors of tidings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from tidings.errors import BadConfig, BadData, TidingsError, TimedOut, Unavailable

# Two transactions waited for each other, one of them could not be put in order, or inserted what another one has
# inserted meanwhile; or this process was stopped for so long that the database ended the transaction. The same one
# succeeds later.
_RETRIED_STATES = {"40001", "40P01", "55P03", "23505", "25P03"}
_RETRIED_NUMBERS = {1062, 1205, 1213}
# Tables or columns are missing, or the password is wrong.
_CONFIG_STATES = {"42P01", "42703", "28000", "28P01", "3D000"}
_CONFIG_NUMBERS = {1044, 1045, 1049, 1054, 1146}
_REASON_MAX = 300


def can_be_retried(error: sa.exc.DBAPIError) -> bool:
    """Whether the database rolled the transaction back because of another one."""
    return _state(error) in _RETRIED_STATES or _number(error) in _RETRIED_NUMBERS


@contextmanager
def database_errors() -> Iterator[None]:
    """Raise the errors of the database as errors of tidings.

    Raises:
        BadData: a value does not fit. BadConfig: the tables are missing, or the login. Unavailable: all others.
    """
    try:
        yield
    except sa.exc.SQLAlchemyError as error:
        raise as_tidings_error(error) from error


def as_tidings_error(error: sa.exc.SQLAlchemyError) -> TidingsError:
    """The error of tidings for one of the database."""
    reason = reason_of(error)
    if isinstance(error, sa.exc.DataError):
        return BadData(f"the database does not accept a value: {reason}")
    if isinstance(error, sa.exc.DBAPIError) and (
        _state(error) in _CONFIG_STATES or _number(error) in _CONFIG_NUMBERS or "no such table" in reason
    ):
        return BadConfig(f"the database cannot be used: {reason}; run tidings notifications --migrate")
    return Unavailable(f"the database of the notifications failed: {reason}")


def commit_error(error: sa.exc.SQLAlchemyError) -> TidingsError:
    """The error for a commit that failed. If the connection broke, its result is unknown."""
    if isinstance(error, sa.exc.DBAPIError) and error.connection_invalidated:
        return TimedOut("the database did not confirm the commit: repeat the call with the same ids")
    return as_tidings_error(error)


def reason_of(error: sa.exc.SQLAlchemyError) -> str:
    """The first line of the driver's message, without the statement and its values."""
    cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    text = str(cause).strip().partition("\n")[0]
    return text[:_REASON_MAX] or type(cause).__name__


def _state(error: sa.exc.DBAPIError) -> str:
    return str(getattr(error.orig, "sqlstate", ""))


def _number(error: sa.exc.DBAPIError) -> int:
    arguments = getattr(error.orig, "args", ())
    return arguments[0] if arguments and isinstance(arguments[0], int) else 0
