"""A database URL that its driver cannot use. Drivers look at most options only when they connect."""

from __future__ import annotations

import configparser
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidings.contrib.outbox.table import sqlalchemy_module
from tidings.errors import BadConfig

if TYPE_CHECKING:
    from sqlalchemy import URL, Engine

_UNKNOWN = re.compile(r".*unexpected keyword argument '([A-Za-z][A-Za-z0-9_]{0,39})'")


def check_url(url: URL) -> None:
    """Check what SQLAlchemy and its drivers do not.

    Raises:
        BadConfig: the driver is for asyncio, or an option is there twice. The message shows no value.
    """
    if url.get_dialect().is_async:
        backend, driver = url.get_backend_name(), url.get_driver_name()
        raise BadConfig(f"the driver {driver} is for asyncio; write {backend}:// without it")
    for name, value in url.query.items():
        # Several hosts are those of a cluster of PostgreSQL.
        if not isinstance(value, str) and name != "host":
            raise BadConfig("an option is there twice in the database URL; remove one")


def file_of(url: URL) -> str:
    """For an error: the file of an SQLite database, because a relative path is often that of another folder."""
    name = url.database if url.get_backend_name() == "sqlite" else None
    # Without one, or with such a name, it is in memory; the others are URIs of SQLite.
    is_path = bool(name) and not str(name).startswith((":memory:", "file:"))
    return f" in {Path(str(name)).absolute()}" if is_path else ""


def report_unusable_options(engine: Engine) -> None:
    """Let `engine` raise BadConfig for an option that its driver cannot use, instead of the driver's TypeError."""
    sqlalchemy_module().event.listen(engine, "do_connect", _connect)


def _connect(dialect: Any, _record: object, arguments: Any, options: Any) -> Any:
    try:
        return dialect.connect(*arguments, **options)
    except (ConnectionError, TimeoutError):
        raise
    except (TypeError, ValueError, OverflowError, AttributeError, LookupError, OSError, configparser.Error) as error:
        # Drivers have exceptions of their own for a database that cannot be reached.
        raise BadConfig(_message(error)) from error


def _message(error: Exception) -> str:
    """What to correct. Without values: what looks like an option may be a part of a password."""
    if unknown := _UNKNOWN.match(str(error)):
        return f"the driver of the database has no option {unknown[1]}; remove it from the URL"
    cause = getattr(error, "strerror", None) or type(error).__name__
    return f"the driver of the database cannot use an option in the URL ({cause}); correct it"
