"""tidings: publish events to browsers, in real time and in order.

    from tidings import Emitter

    with Emitter("redis://localhost:6379/0") as emitter:
        emitter.emit("shipped", {"order": 42}, channel="orders:42")

Importing this package imports no driver: each is loaded where it is first needed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tidings.drivers import importing
from tidings.errors import (
    BadData,
    CallerError,
    Expired,
    Forbidden,
    HubError,
    MissingExtra,
    PeerError,
    TidingsError,
    TimedOut,
    TooLarge,
    Unauthorized,
    Unavailable,
)
from tidings.receipts import BatchFailed, NotificationReceipt, Receipt
from tidings.wire.claims import Claims
from tidings.wire.cursor import Cursor
from tidings.wire.presence import Presence

if TYPE_CHECKING:
    from tidings.async_emitter import AsyncEmitter
    from tidings.emitter import Emitter
    from tidings.tokens.issue import issue

__version__ = "0.1.0"

__all__ = [
    "AsyncEmitter",
    "BadData",
    "BatchFailed",
    "CallerError",
    "Claims",
    "Cursor",
    "Emitter",
    "Expired",
    "Forbidden",
    "HubError",
    "MissingExtra",
    "NotificationReceipt",
    "PeerError",
    "Presence",
    "Receipt",
    "TidingsError",
    "TimedOut",
    "TooLarge",
    "Unauthorized",
    "Unavailable",
    "issue",
]

_WHERE = {
    "AsyncEmitter": "tidings.async_emitter",
    "Emitter": "tidings.emitter",
    "issue": "tidings.tokens",
}


def __getattr__(name: str) -> Any:
    """The names that are loaded at first use."""
    if name not in _WHERE:
        raise AttributeError(f"module 'tidings' has no attribute {name!r}")
    with importing():
        return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
