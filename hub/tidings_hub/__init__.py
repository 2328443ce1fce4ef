"""The server of tidings. Handlers of your own are declared on an `App` (docs/handlers.md), without any driver."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tidings_hub.extensions.app.app import App
    from tidings_hub.extensions.app.session import Session

__all__ = ["App", "Session"]

_WHERE = {"App": "tidings_hub.extensions.app.app", "Session": "tidings_hub.extensions.app.session"}


def __getattr__(name: str) -> Any:
    """The names that are loaded at first use."""
    if name not in _WHERE:
        raise AttributeError(f"module 'tidings_hub' has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
