"""Imports optional packages at their first use, which may happen in several threads at the same time."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from tidings.errors import BadConfig, MissingExtra

T = TypeVar("T")

# Another thread of the program may import the same package without our lock. Then Python shows each of them modules
# of which only a part is loaded. An import takes less than this.
_RETRIES = 40
_RETRY_S = 0.05
_INCOMPLETE = re.compile(r"module '|cannot import name |.*partially initialized ")
_lock = threading.RLock()


def load_driver(package: str, missing: str, load: Callable[[], T]) -> T:
    """The result of `load`, a function with `import` statements. One thread at a time runs it.

    `load` also touches what the package itself imports at its first use. `missing`: the error message, with the pip
    line, if the package is not installed.

    Raises:
        MissingExtra: this package is not installed.
        BadConfig: the package is broken, or a package that it needs is missing.
    """
    for retries_left in range(_RETRIES, -1, -1):
        try:
            # Each import in another thread waits here, so that it finds complete modules.
            with _lock:
                return load()
        except ModuleNotFoundError as error:
            if error.name == package:
                raise MissingExtra(missing) from error
            raise BadConfig(f"{package} is installed, but a package that it needs is not: {error}") from error
        except (ImportError, AttributeError) as error:
            if not retries_left or not _INCOMPLETE.match(str(error)):
                raise BadConfig(f"{package} is installed, but cannot be imported: {error}") from error
        time.sleep(_RETRY_S)
    raise AssertionError("the last attempt returns or raises")


def _replace_lock() -> None:
    global _lock  # noqa: PLW0603 - the parent's thread that holds it does not exist in the child
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_replace_lock)
