"""Where SQLAlchemy sends the events of blocking and asyncio sessions."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from sqlalchemy.exc import MissingGreenlet
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.util import await_only

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker

Listener = TypeVar("Listener")
# Any: the session class is the application's.
SyncTarget: TypeAlias = Session | sessionmaker[Any] | scoped_session[Any] | type[Session]
AsyncTarget: TypeAlias = "AsyncSession | async_sessionmaker[Any] | async_scoped_session[Any]"


def events_target(target: Any) -> SyncTarget:
    """The object that SQLAlchemy sends events for: the blocking session, or its class, inside an asyncio session."""
    # Not imported: it needs greenlet, which SQLAlchemy no longer installs. If the target is of asyncio, it is loaded.
    asyncio: Any = sys.modules.get("sqlalchemy.ext.asyncio")
    if asyncio is not None and isinstance(target, asyncio.async_scoped_session):
        target = target.session_factory
    if asyncio is not None and isinstance(target, asyncio.AsyncSession):
        target = target.sync_session
    elif asyncio is not None and isinstance(target, asyncio.async_sessionmaker):
        # A separate class, so that sessions of other makers send no events here.
        base = target.kw.get("sync_session_class") or target.class_.sync_session_class
        session_class = type(base.__name__, (base,), {})
        target.configure(sync_session_class=session_class)
        target = session_class
    result: SyncTarget = target
    return result


def can_await() -> bool:
    """Whether this runs for an asyncio session. SQLAlchemy 2.0.0 has no function for that."""
    probe = _do_nothing()
    try:
        await_only(probe)
    except MissingGreenlet:
        probe.close()
        return False
    return True


async def _do_nothing() -> None:
    """A coroutine that ends immediately."""


def earlier_listeners(session: Session, listener: Listener) -> list[Listener]:
    """The listeners of this session that came before `listener`. The call registers it.

    `autopush` may be called twice, as in an application factory. A change is pushed once per emitter.
    """
    listeners: list[Listener] = session.info.setdefault("tidings.autopush", [])
    if listener not in listeners:
        listeners.append(listener)
    return listeners[: listeners.index(listener)]
