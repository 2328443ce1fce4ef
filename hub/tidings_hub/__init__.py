"""The hub of tidings. Declare your event handlers on an `App` (docs/handlers.md); this import loads no driver."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tidings_hub.extensions.app.app import App
    from tidings_hub.extensions.app.session import Session

__all__ = ["App", "Session"]

_MODULES = {"App": "tidings_hub.extensions.app.app", "Session": "tidings_hub.extensions.app.session"}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module 'tidings_hub' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
