"""`Outbox`: writes publications and notifications as rows of a transaction."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, Unpack

from tidings.builder import PublicationBuilder
from tidings.contrib.outbox.rows import columns_of
from tidings.contrib.outbox.table import NAME, own_table, sqlalchemy_module
from tidings.errors import BadData, BadRequest
from tidings.models.rules import SHARED
from tidings.models.versions import VersionOfKind
from tidings.number_checks import check_count
from tidings.options import EventOptions, NotifyOptions, PushOptions
from tidings.publishers.base import Outgoing
from tidings.wire.payload import MAX_BYTES

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table
    from sqlalchemy.orm import Session, scoped_session


class Outbox:
    """Writes what to send into a transaction. A relay sends it after the commit, never after a rollback.

    `bind`: the SQLAlchemy session or connection whose transaction it is.
    `table`: its name, or the result of `outbox_table`. `publication_max_bytes`: larger data is rejected (TooLarge).
    `notify`: wake the relays at the commit (PostgreSQL); without it they look every `interval_s`.
    Make one per transaction; it is cheap. With asyncio: `await session.run_sync(lambda s: Outbox(s).emit(…))`.

    Raises:
        BadRequest: neither a session nor a connection, or one of asyncio.
        BadConfig: an invalid table name, or neither a name nor a table; or an invalid size.
    """

    def __init__(
        self,
        bind: Session | scoped_session[Any] | Connection,
        *,
        table: Table | str = NAME,
        publication_max_bytes: int = MAX_BYTES,
        notify: bool = True,
    ) -> None:
        if not callable(getattr(bind, "execute", None)) or isinstance(bind, type):
            raise BadRequest("an outbox needs the session or connection that commits, not an engine")
        if iscoroutinefunction(bind.execute):
            # Its execute would return without a row written.
            raise BadRequest(
                f"an {type(bind).__name__} cannot be written to without await: "
                "await session.run_sync(lambda s: Outbox(s).emit(…))"
            )
        if not any(hasattr(bind, name) for name in ("dialect", "flush")):
            raise BadRequest(f"a {type(bind).__name__} is not a connection or a session of SQLAlchemy")
        check_count(publication_max_bytes, "publication_max_bytes")
        self._bind = bind
        # Whatever is no table is no name either, and raises.
        self._table = table if isinstance(table, sqlalchemy_module().Table) else own_table(table)
        self._builder = _shared_builder(publication_max_bytes)
        self._notify = notify

    def emit(self, event: str, data: object = None, **options: Unpack[EventOptions]) -> str:
        """As `Emitter.emit`, after the commit of this transaction. Returns the id, one for all channels of the call.

        There is no `ack`: the receipt that could wait for it is the relay's.

        Raises:
            BadChannel, BadEvent, BadData, BadId, TooLarge: nothing was written.
            sqlalchemy.exc.SQLAlchemyError: the database's own.
        """
        return self._write(self._builder.build_event(event, data, ack=False, **options))

    def notify(self, category: str, **options: Unpack[NotifyOptions]) -> str:
        """As `Emitter.notify`, after the commit of this transaction. Returns the id, one for all users of the call.

        Raises:
            BadRequest, BadChannel, BadData, BadId, TooLarge: nothing was written.
            sqlalchemy.exc.SQLAlchemyError: the database's own.
        """
        return self._write(self._builder.build_notifications(category, **options))

    def push_model(self, obj: object, **options: Unpack[PushOptions]) -> str:
        """As `Emitter.push_model`. A session is flushed first, so that a new row has its key.

        A row of the session is locked and read again, so that what is published is what the transaction commits. A
        later change in the same transaction needs another call. `register(…, reread=False)` saves the query.
        Classes are registered with `tidings.models.register`, or have `__channels__`.

        Raises:
            BadChannel, BadData, BadId, BadRequest, TooLarge: nothing was written.
            sqlalchemy.exc.SQLAlchemyError: the database's own.
        """
        bind: Any = self._bind
        version = None
        if hasattr(bind, "flush"):
            # A scoped session has a registry.
            session = bind.registry() if hasattr(bind, "registry") else bind
            session.flush()
            version = self._read_again(session, obj, options.get("op"))
        return self._write(self._builder.build_model(obj, version, **options))

    def _read_again(self, session: Session, obj: object, op: str | None) -> VersionOfKind | None:
        """Bring an object of the session up to date; its version if it has none of its own."""
        # Not imported at the top: it imports SQLAlchemy.
        from tidings.contrib.database_rows import DatabaseClock, load_columns, reread, session_of

        rule = self._builder.registry.rule(type(obj))
        if session_of(obj) is not session or rule.reread is False:
            return None
        version = DatabaseClock(session, {}).version(obj, rule)
        if reread(session, [obj], {}, self._builder.registry.rule, lock=True) and op != "deleted":
            raise BadData(
                f"the row of this {type(obj).__name__} does not exist any more; use push_model(…, op='deleted')"
            )
        load_columns(session, obj, self._builder.registry.rule)
        return version

    def _write(self, items: Sequence[Outgoing]) -> str:
        sa = sqlalchemy_module()
        connection = self._connection()
        connection.execute(self._table.insert(), columns_of(items))
        if self._notify and connection.dialect.name == "postgresql":
            # Sent at the commit, once for the whole transaction.
            connection.execute(sa.select(sa.func.pg_notify(self._table.name, "")))
        return items[0].id

    def _connection(self) -> Connection:
        bind: Any = self._bind
        # The attribute `connection` of a Connection is the driver's.
        connection: Connection = bind if hasattr(bind, "dialect") else bind.connection()
        return connection


@lru_cache(maxsize=8)
def _shared_builder(publication_max_bytes: int) -> PublicationBuilder:
    """One builder per process, because the versions that it gives to models must grow."""
    return PublicationBuilder(publication_max_bytes=publication_max_bytes, registry=SHARED)
