"""Finds what a setting names as `module` or `module:name`: an `App`, or a WSGI application."""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from tidings.errors import BadConfig
from tidings_hub.extensions.app.app import App

logger = logging.getLogger("tidings")


def load_app(place: str) -> App:
    """The app of `module:name`; of `module` alone the only one that it has.

    Raises:
        BadConfig: there is none, or the module cannot be imported; the log has the traceback.
    """
    module, _, name = place.partition(":")
    loaded = _module(module)
    if name:
        found = getattr(loaded, name, None)
        if not isinstance(found, App):
            raise BadConfig(f"{place} is no tidings_hub.App")
        return found
    apps = {id(each): each for each in vars(loaded).values() if isinstance(each, App)}
    if len(apps) != 1:
        raise BadConfig(f"{module} has {len(apps) or 'no'} tidings_hub.App; name the one that is meant: {module}:app")
    return next(iter(apps.values()))


def load_wsgi(place: str) -> Any:
    """The WSGI application of `module:name`; the name `app` if none is given.

    Raises:
        BadConfig: as `load_app`.
    """
    module, _, name = place.partition(":")
    found = getattr(_module(module), name or "app", None)
    if not callable(found):
        raise BadConfig(f"{module} has no WSGI application {name or 'app'}; name it: {module}:application")
    return found


def _module(name: str) -> ModuleType:
    # As `python -m` does, so that the command finds what lies in the working directory.
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return import_module(name)
    except BadConfig:
        raise
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            logger.exception("%s cannot be imported", name)
        raise BadConfig(f"no module {error.name}; --app and --wsgi name modules that Python can import") from error
    except Exception as error:
        logger.exception("%s cannot be imported", name)
        raise BadConfig(f"{name} cannot be imported: {type(error).__name__}; the log has the traceback") from error
