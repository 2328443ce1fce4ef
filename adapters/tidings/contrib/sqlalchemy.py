"""`autopush`: push rows that a SQLAlchemy session creates, updates or deletes, after the commit.

    emitter = Emitter("redis://localhost:6379/0")
    Session = sessionmaker(engine)
    autopush(Session, emitter)

It pushes classes with channels: `__channels__`, `emitter.register` or `tidings.models.register`. A rollback discards
the changes, that of a savepoint only those of the savepoint. docs/sqlalchemy.md lists changes that a session misses.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from contextlib import ExitStack
from typing import Any

from sqlalchemy import event, inspect
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, SessionTransaction
from sqlalchemy.util import await_only

from tidings.async_emitter import AsyncEmitter
from tidings.batch import AsyncBatch, Batch
from tidings.contrib.changes import Changes, RowChange, one_per_row
from tidings.contrib.database_rows import DatabaseClock, expired_columns, has_changed, load_columns, reread, row_key
from tidings.contrib.delivery import OnError, check_on_error, deliver, deliver_async, log_error
from tidings.contrib.orphans import orphans
from tidings.contrib.previous_rows import close_previous, may_move, previous_by_history, previous_of, read_previous
from tidings.contrib.row_publications import Previous, RowPublications
from tidings.contrib.row_queries import Bind, lock_base_rows
from tidings.contrib.session_frame import Frame
from tidings.contrib.sqlalchemy_targets import AsyncTarget, SyncTarget, can_await, earlier_listeners, events_target
from tidings.emitter import Emitter
from tidings.errors import BadConfig, BadRequest, Internal, TidingsError, Unavailable
from tidings.models.describe import Op
from tidings.models.rules import Rule
from tidings.number_checks import check_count

CHANGES_MAX = 10_000
_logger = logging.getLogger("tidings")


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
    `session.info["autopush"] = False` turns it off for a session. Of several calls with one emitter the first pushes.

    Rows are read again just before the commit, with one query per class. `register(…, reread=False)` saves it. If an
    object cannot be pushed (BadData, BadChannel, …), the commit raises and nothing is committed. After the commit only
    `on_error` can raise: see `delivery`.

    Raises:
        BadConfig: an AsyncEmitter for a blocking session, or an Emitter for an asyncio session; an invalid setting.
    """
    check_on_error(on_error)
    check_count(changes_max, "changes_max")
    listened = events_target(target)
    if listened is not target and not isinstance(emitter, AsyncEmitter):
        raise BadConfig("asyncio sessions need an AsyncEmitter: an Emitter would block the event loop while it sends")
    _Autopush(emitter, models, on_error, changes_max).listen(listened)


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
        frame = self._frame(session)
        changed = [obj for obj in session.dirty if self.is_pushed(session, obj)]
        frame.expired = {inspect(obj): expired_columns(obj) for obj in changed}
        lock_base_rows(session, filter(self._is_reread, changed))
        moving = [obj for obj in changed if self._is_reread(obj) and self._may_move(session, obj)]
        frame.previous |= read_previous(session, moving, self._rule)
        deleted = [obj for obj in (*session.deleted, *orphans(session)) if self.is_pushed(session, obj)]
        # After the flush the row is gone. Locked, since another transaction may still change it.
        frame.gone |= reread(session, filter(self._is_reread, deleted), {}, self._rule, lock=True)
        for obj in (obj for obj in deleted if inspect(obj) not in frame.gone):
            self._add_previous(session, obj)
            load_columns(session, obj, self._rule)

    def after_flush(self, session: Session, _context: object) -> None:
        frame = self._frame(session)
        for obj in session.new:
            if self.is_pushed(session, obj):
                self._add(session, obj, "created")
        for obj in session.dirty:
            if self.is_pushed(session, obj) and has_changed(obj, frame.expired.get(inspect(obj), set())):
                self._add_previous(session, obj)
                self._add(session, obj, "updated")
        for obj in session.deleted:
            if self.is_pushed(session, obj):
                self._add(session, obj, "deleted")
        frame.expired = {}
        frame.flushing = True

    def persistent_to_deleted(self, session: Session, obj: object) -> None:
        # During a flush this is called again for the objects above, in no order, and for orphans. Outside of a flush a
        # bulk DELETE has matched an object of the session: values may not be loaded, and some deleted rows are missing.
        frame = self._frame(session)
        if (frame.flushing or inspect(obj) in frame.changes) and self.is_pushed(session, obj):
            self._add(session, obj, "deleted")

    def after_flush_postexec(self, session: Session, _context: object) -> None:
        frame = self._frame(session)
        frame.flushing = False
        if frame.batches is not None:
            # Another before_commit listener changed something after this one.
            frame.batches = self._build_batches(session, frame)

    def before_commit(self, session: Session) -> None:
        if session.get_nested_transaction() is None:
            # Flush here and not in the commit itself, so that the changes of this flush are read as well.
            session.flush()
            frame = self._frame(session)
            frame.batches = self._build_batches(session, frame)

    def after_commit(self, session: Session) -> None:
        self._frame(session).committed = True

    def after_transaction_end(self, session: Session, transaction: SessionTransaction) -> None:
        # Not in after_commit: here the database connection is free, and the session stays usable after an error.
        frame = self._frames(session).pop(transaction, None)
        try:
            self._on_end(session, transaction, frame)
        finally:
            if transaction.parent is None:
                close_previous(session)

    def _on_end(self, session: Session, transaction: SessionTransaction, frame: Frame | None) -> None:
        if frame is None or not frame.committed:
            return
        if transaction.nested:
            self._frame(session).absorb(frame)
            return
        if frame.batches is None:
            # The transaction was committed while a savepoint was open. This session cannot read any more.
            frame.batches = self._build_batches_late(session, frame)
        with ExitStack() as stack:
            # Each batch is sent even if on_error raises for the one before.
            for batch in reversed(frame.batches or []):
                stack.callback(self._send, batch)

    def _frames(self, session: Session) -> dict[SessionTransaction, Frame]:
        frames: dict[SessionTransaction, Frame] = session.info.setdefault(self, {})
        return frames

    def _frame(self, session: Session) -> Frame:
        """The frame of the innermost savepoint, or of the transaction."""
        current = session.get_nested_transaction() or session.get_transaction()
        if current is None:
            raise Internal("a session without a transaction; please report this")
        frames = self._frames(session)
        if current not in frames:
            frames[current] = Frame(Changes(self._changes_max))
        return frames[current]

    def is_pushed(self, session: Session, obj: object) -> bool:
        if session.info.get("autopush") is False or (self._models is not None and not isinstance(obj, self._models)):
            return False
        emitter, earlier = self.open_emitter(), earlier_listeners(session, self)
        is_first = not any(other.open_emitter() is emitter and other.is_pushed(session, obj) for other in earlier)
        return is_first and emitter.rule(type(obj)).channels is not None

    def _is_reread(self, obj: object) -> bool:
        return self._rule(type(obj)).reread is not False

    def _rule(self, model: type) -> Rule:
        return self.open_emitter().rule(model)

    def _add(self, session: Session, obj: object, op: Op) -> None:
        frame = self._frame(session)
        state: Any = inspect(obj)
        if state in frame.gone:
            # Another transaction has deleted it, and publishes that.
            return
        if not hasattr(session, "shard_chooser"):
            # During a flush, so that a session that reads from replicas returns the database that it writes.
            self._binds(session)[state.mapper] = session.get_bind(state.mapper)
        frame.changes.add(state, obj, op)

    def _binds(self, session: Session) -> dict[object, Bind]:
        binds: dict[object, Bind] = session.info.setdefault((self, "binds"), {})
        return binds

    def open_emitter(self) -> Emitter | AsyncEmitter:
        return self._emitter() if callable(self._emitter) else self._emitter

    def _may_move(self, session: Session, obj: object) -> bool:
        """Whether a change of this object may be the first that changes its channels."""
        state, frames = inspect(obj), self._frames(session).values()
        is_known = any(state in frame.previous or frame.changes.is_new(state) for frame in frames)
        return not is_known and may_move(obj, self._rule(type(obj)))

    def _add_previous(self, session: Session, obj: object) -> None:
        """Remember what the session knows about a row that was not read before: `reread=False`, or set by the flush."""
        if self._may_move(session, obj):
            self._frame(session).previous[inspect(obj)] = previous_by_history(session, obj, self._rule)

    def _build_batches(self, session: Session, frame: Frame) -> list[Batch | AsyncBatch]:
        """The batches with all changes, as the rows are in the database now and so after the commit."""
        publications = RowPublications(self.open_emitter())
        changes = one_per_row(frame.changes.rows(), row_key)
        if changes and isinstance(self.open_emitter(), AsyncEmitter) and not can_await():
            raise BadConfig("an AsyncEmitter cannot send from a blocking session; use an Emitter")
        clock = DatabaseClock(session, self._binds(session))
        versions = [clock.version(change.obj, self._rule(type(change.obj))) for change in changes]
        stored = [change.obj for change in changes if change.op != "deleted" and self._is_reread(change.obj)]
        gone = reread(session, stored, self._binds(session), self._rule)
        for change, version in zip(changes, versions, strict=True):
            obj, previous = change.obj, self._previous(frame, change)
            if inspect(obj) not in gone:
                if change.op != "deleted":
                    load_columns(session, obj, self._rule)
                publications.add(obj, change.op, version, previous)
            elif change.op == "updated":
                publications.add(obj, "deleted", version, previous)
            else:
                name = type(obj).__name__
                _logger.warning("a new row of %s was not published: this transaction does not see it any more", name)
        return publications.batches

    def _previous(self, frame: Frame, change: RowChange) -> Previous | None:
        if change.replaced is None:
            return frame.previous.get(inspect(change.obj))
        return frame.previous.get(inspect(change.replaced)) or previous_of(change.replaced, self._rule)

    def _build_batches_late(self, session: Session, frame: Frame) -> list[Batch | AsyncBatch]:
        """As `_build_batches`, after the commit, with objects of another session. Errors are passed to `on_error`."""
        publications = RowPublications(self.open_emitter())
        binds = self._binds(session)
        try:
            for change in one_per_row(frame.changes.rows(), row_key):
                obj, mapper = change.obj, inspect(change.obj).mapper
                with Session(binds.get(mapper) or session.get_bind(mapper)) as fresh:
                    version = DatabaseClock(fresh, binds).version(obj, self._rule(type(obj)))
                    current = obj if change.op == "deleted" else fresh.get(type(obj), inspect(obj).identity)
                    if current is not None:
                        publications.add(current, change.op, version, self._previous(frame, change))
        except TidingsError as error:
            self._on_error(error, self.open_emitter().batch())
        except SQLAlchemyError as error:
            unread = Unavailable(f"the committed rows could not be read again: {type(error).__name__}")
            self._on_error(unread, self.open_emitter().batch())
        except Exception as error:  # noqa: BLE001
            # The application's own code. After the commit nothing may raise.
            refused = BadRequest(f"channels, version or to_dict() of a row raised {error!r:.100}")
            self._on_error(refused, self.open_emitter().batch())
        return publications.batches

    def _send(self, batch: Batch | AsyncBatch) -> None:
        if isinstance(batch, AsyncBatch):
            await_only(deliver_async(batch, self._on_error))
        else:
            deliver(batch, self._on_error)
