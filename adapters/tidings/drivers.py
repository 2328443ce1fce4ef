"""Imports at the first use, which may happen in several threads at the same time, also while one of them forks."""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401 - drivers need it, and Python refuses it once the main thread has ended
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from tidings.errors import BadConfig, MissingExtra

T = TypeVar("T")

# Another thread of the program may import the same package without our lock. Then Python shows each of them modules
# of which only a part is loaded. An import takes less than this.
_RETRIES = 40
_RETRY_S = 0.05
# A fork waits no longer for imports.
_FORK_S = 10.0
_INCOMPLETE = re.compile(r"module '|cannot import name |.*partially initialized ")
_lock = threading.RLock()
_forking = threading.local()


@contextmanager
def importing() -> Iterator[None]:
    """Import modules of tidings at their first use. One thread at a time does, and a fork waits for it."""
    with _lock:
        yield


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
        except (KeyError, RuntimeError) as error:
            if not retries_left or not _is_import_race(error, package):
                raise
        except (ImportError, AttributeError) as error:
            if not retries_left or not _INCOMPLETE.match(str(error)):
                raise BadConfig(f"{package} is installed, but cannot be imported: {error}") from error
        time.sleep(_RETRY_S)
        with _lock:
            _bind_submodules(package)
    raise AssertionError("the last attempt returns or raises")


def _is_import_race(error: Exception, package: str) -> bool:
    """Whether Python's import system raised it, because other threads import the same package in another order."""
    if isinstance(error, KeyError):
        return str(error.args[0] if error.args else "").partition(".")[0] == package
    return type(error).__name__ == "_DeadlockError"


def _bind_submodules(package: str) -> None:
    """Make the loaded submodules of a package its attributes, as an import does that nothing interrupts.

    If the import of a package fails in one thread, its submodules stay loaded. The next import creates a new
    package, and Python does not bind them to it, so it would lack them for good.
    """
    for name, module in list(sys.modules.items()):
        parent_name, _, child = name.rpartition(".")
        parent = sys.modules.get(parent_name)
        if name.partition(".")[0] == package and parent is not None and child not in vars(parent):
            setattr(parent, child, module)


def _wait_for_imports() -> None:
    """A child would wait for ever for a module whose import another thread of the parent had begun."""
    _forking.has_lock = _lock.acquire(timeout=_FORK_S)


def _continue_imports() -> None:
    if _forking.has_lock:
        _lock.release()


def _replace_lock() -> None:
    global _lock  # noqa: PLW0603 - the parent's thread that holds it may not exist in the child
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_wait_for_imports, after_in_parent=_continue_imports, after_in_child=_replace_lock)
