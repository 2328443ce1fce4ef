"""`autopush`: push rows that a SQLAlchemy session creates, updates or deletes, after the commit.

    emitter = Emitter("redis://localhost:6379/0")
    Session = sessionmaker(engine)
    autopush(Session, emitter)

It pushes classes with channels: `__channels__`, `emitter.register` or `tidings.models.register`. A rollback discards
the changes, that of a savepoint only those of the savepoint. docs/sqlalchemy.md lists changes that a session misses.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from sqlalchemy import Column, event, inspect
from sqlalchemy.exc import MissingGreenlet
from sqlalchemy.orm import Session, SessionTransaction, scoped_session, sessionmaker
from sqlalchemy.util import await_only

from tidings.async_emitter import AsyncEmitter
from tidings.batch import AsyncBatch, Batch
from tidings.contrib.changes import Changes, explicit_channels
from tidings.contrib.delivery import OnError, deliver, deliver_async, log_error
from tidings.emitter import Emitter
from tidings.errors import BadConfig, Internal, TidingsError, TooLarge
from tidings.models.describe import Op

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker

# Any: the session class is the application's.
SyncTarget: TypeAlias = Session | sessionmaker[Any] | scoped_session[Any] | type[Session]
AsyncTarget: TypeAlias = "AsyncSession | async_sessionmaker[Any] | async_scoped_session[Any]"

CHANGES_MAX = 10_000


def autopush(
    target: SyncTarget | AsyncTarget,
    emitter: Emitter | AsyncEmitter | Callable[[], Emitter],
    *,
    models: Collection[type] | None = None,
    on_error: OnError = log_error,
    changes_max: int = CHANGES_MAX,
) -> None:
    """Push the changes that sessions of `target` commit: one batch per commit, with `push_model` and the right `op`.

    `target`: a session, a session maker, or a session class. `emitter`: an AsyncEmitter for asyncio sessions, otherwise
    an Emitter, or a function that returns it at the commit. `models`: only these classes and their subclasses.
    `changes_max`: more rows in one transaction are rejected (TooLarge, at the flush).
    `session.info["autopush"] = False` turns it off for one session.

    Values are read just before the commit. Values that the database computed at the flush are loaded with one query per
    row. If an object cannot be pushed (BadData, BadChannel, …), the commit raises and nothing is committed. After the
    commit only `on_error` can raise: see `delivery`.

    Raises:
        BadConfig: an AsyncEmitter for a blocking session, or an Emitter for an asyncio session.
    """
    events_target = _events_target(target)
    if events_target is not target and not isinstance(emitter, AsyncEmitter):
        raise BadConfig("asyncio sessions need an AsyncEmitter: an Emitter would block the event loop while it sends")
    _Autopush(emitter, models, on_error, changes_max).listen(events_target)


def _events_target(target: Any) -> SyncTarget:
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


@dataclass(slots=True)
class _Frame:
    """One transaction or savepoint. `batches`: to send after the commit."""

    changes: Changes
    flushing: bool = False
    committed: bool = False
    batches: list[Batch | AsyncBatch] | None = None


class _Autopush:
    """The event listeners of one `autopush`. Its state of a session is in that session's `info`."""

    def __init__(
        self,
        emitter: Emitter | AsyncEmitter | Callable[[], Emitter],
        models: Collection[type] | None,
        on_error: OnError,
        changes_max: int,
    ) -> None:
        self._emitter = emitter
        self._models = None if models is None else tuple(models)
        self._on_error = on_error
        self._changes_max = changes_max

    def listen(self, target: SyncTarget) -> None:
        for name in (
            "before_flush",
            "after_flush",
            "persistent_to_deleted",
            "after_flush_postexec",
            "before_commit",
            "after_commit",
            "after_transaction_end",
        ):
            event.listen(target, name, getattr(self, name))

    # SQLAlchemy's events, in the order in which they occur

    def before_flush(self, session: Session, _context: object, _objects: object) -> None:
        for obj in session.deleted:
            if self._is_pushed(session, obj):
                # After the flush the row is gone.
                _load(obj)

    def after_flush(self, session: Session, _context: object) -> None:
        for obj in session.new:
            if self._is_pushed(session, obj):
                self._add(session, obj, "created")
        for obj in session.dirty:
            if self._is_pushed(session, obj) and _has_changed(obj):
                self._add(session, obj, "updated")
        for obj in session.deleted:
            if self._is_pushed(session, obj):
                self._add(session, obj, "deleted")
        self._frame(session).flushing = True

    def persistent_to_deleted(self, session: Session, obj: object) -> None:
        # During a flush this is called again for the objects above, in no order, and for orphans. Outside of a flush a
        # bulk DELETE has matched an object of the session: values may not be loaded, and some deleted rows are missing.
        frame = self._frame(session)
        if (frame.flushing or inspect(obj) in frame.changes) and self._is_pushed(session, obj):
            self._add(session, obj, "deleted")

    def after_flush_postexec(self, session: Session, _context: object) -> None:
        frame = self._frame(session)
        frame.flushing = False
        if frame.batches is not None:
            # Another before_commit listener changed something after this one.
            frame.batches = self._build_batches(frame)

    def before_commit(self, session: Session) -> None:
        if session.get_nested_transaction() is None:
            # Flush here and not in the commit itself, so that the changes of this flush are read as well.
            session.flush()
            frame = self._frame(session)
            frame.batches = self._build_batches(frame)

    def after_commit(self, session: Session) -> None:
        frame = self._frame(session)
        frame.committed = True
        if frame.batches is None and session.get_nested_transaction() is None:
            # The transaction was committed while a savepoint was open. Values cannot be loaded any more.
            frame.batches = self._build_batches_late(frame)

    def after_transaction_end(self, session: Session, transaction: SessionTransaction) -> None:
        # Not in after_commit: here the database connection is free, and the session stays usable after an error.
        frame = self._frames(session).pop(transaction, None)
        if frame is None or not frame.committed:
            return
        if transaction.nested:
            self._frame(session).changes.absorb(frame.changes)
            return
        with ExitStack() as stack:
            # Each batch is sent even if on_error raises for the one before.
            for batch in reversed(frame.batches or []):
                stack.callback(self._send, batch)

    # Helpers of the events

    def _frames(self, session: Session) -> dict[SessionTransaction, _Frame]:
        frames: dict[SessionTransaction, _Frame] = session.info.setdefault(self, {})
        return frames

    def _frame(self, session: Session) -> _Frame:
        """The frame of the innermost savepoint, or of the transaction."""
        current = session.get_nested_transaction() or session.get_transaction()
        if current is None:
            raise Internal("a session without a transaction; please report this")
        frames = self._frames(session)
        if current not in frames:
            frames[current] = _Frame(Changes(self._changes_max))
        return frames[current]

    def _is_pushed(self, session: Session, obj: object) -> bool:
        if session.info.get("autopush") is False or (self._models is not None and not isinstance(obj, self._models)):
            return False
        return self._open_emitter().rule(type(obj)).channels is not None

    def _add(self, session: Session, obj: object, op: Op) -> None:
        self._frame(session).changes.add(inspect(obj), obj, op)

    def _open_emitter(self) -> Emitter | AsyncEmitter:
        return self._emitter() if callable(self._emitter) else self._emitter

    def _build_batches(self, frame: _Frame, *, load: bool = True) -> list[Batch | AsyncBatch]:
        """The batches with all changes, each filled up to the limit."""
        batches: list[Batch | AsyncBatch] = []
        emitter, rows = self._open_emitter(), frame.changes.rows()
        if rows and isinstance(emitter, AsyncEmitter) and not _can_await():
            raise BadConfig("an AsyncEmitter cannot send from a blocking session; use an Emitter")
        for obj, op in rows:
            if load:
                _load(obj)
            channels = explicit_channels(emitter.rule(type(obj)), obj)
            if channels == []:
                continue
            if not batches:
                batches.append(emitter.batch().begin())
            try:
                batches[-1].push_model(obj, channels=channels, op=op)
            except TooLarge:
                if not len(batches[-1]):
                    raise
                batches.append(emitter.batch().begin())
                batches[-1].push_model(obj, channels=channels, op=op)
        return batches

    def _build_batches_late(self, frame: _Frame) -> list[Batch | AsyncBatch]:
        try:
            return self._build_batches(frame, load=False)
        except TidingsError as error:
            self._on_error(error, self._open_emitter().batch())
            return []

    def _send(self, batch: Batch | AsyncBatch) -> None:
        if isinstance(batch, AsyncBatch):
            await_only(deliver_async(batch, self._on_error))
        else:
            deliver(batch, self._on_error)


def _can_await() -> bool:
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


def _has_changed(obj: object) -> bool:
    """Whether a column has a new value. A changed collection alone does not count."""
    state: Any = inspect(obj)
    return any(state.attrs[column.key].history.has_changes() for column in state.mapper.column_attrs)


def _load(obj: object) -> None:
    """Load the column values that `push_model` needs and that are expired or not loaded."""
    state: Any = inspect(obj)
    if not state.persistent:
        return
    for column in state.mapper.column_attrs:
        if column.key in state.unloaded and not column.deferred and isinstance(column.columns[0], Column):
            getattr(obj, column.key)
