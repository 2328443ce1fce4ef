"""Loading an `App` or a WSGI application that a setting names as `module` or `module:name`."""

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


def load_app(reference: str) -> App:
    """The app `module:name`, or the only app in `module`.

    Raises:
        BadConfig: there is none, or the module cannot be imported; the log has the traceback.
    """
    module, _, name = reference.partition(":")
    loaded = _module(module)
    if name:
        app = getattr(loaded, name, None)
        if not isinstance(app, App):
            raise BadConfig(f"{reference} is not a tidings_hub.App")
        return app
    apps = {id(value): value for value in vars(loaded).values() if isinstance(value, App)}
    if len(apps) != 1:
        raise BadConfig(f"{module} has {len(apps) or 'no'} tidings_hub.App; name one of them: {module}:app")
    return next(iter(apps.values()))


def load_wsgi(reference: str) -> Any:
    """The WSGI application `module:name`. The default name is `app`.

    Raises:
        BadConfig: as `load_app`.
    """
    module, _, name = reference.partition(":")
    application = getattr(_module(module), name or "app", None)
    if not callable(application):
        raise BadConfig(f"{module} has no WSGI application {name or 'app'}; name it: {module}:application")
    return application


def _module(name: str) -> ModuleType:
    if not name.replace(".", "_").isidentifier():
        raise BadConfig(f"{name!r} is not a module; --app and --wsgi name one, such as shop.push or shop.push:app")
    # Like `python -m`: modules in the working directory can be imported.
    working_directory = str(Path.cwd())
    if working_directory not in sys.path:
        sys.path.insert(0, working_directory)
    try:
        return import_module(name)
    except BadConfig:
        raise
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            logger.exception("%s cannot be imported", name)
        raise BadConfig(f"no module {error.name}; --app and --wsgi name modules that Python can import") from error
    except (Exception, SystemExit) as error:
        # A script without `if __name__ == "__main__"`, or one that lacks a variable, would end the hub with its status.
        logger.exception("%s cannot be imported", name)
        raise BadConfig(f"{name} cannot be imported: {type(error).__name__}; the log has the traceback") from error
