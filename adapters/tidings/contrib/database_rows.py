"""The rows of SQLAlchemy objects as the database has them, read in the transaction that changes them.

A session knows only what it loaded. Another transaction, a trigger or a bulk UPDATE may have changed other columns of
the row. After the flush this transaction has the row locked, so what it reads then is the row after its commit.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, time
from decimal import Decimal
from typing import Any

from sqlalchemy import Column, inspect, text
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import InstanceState, Session
from sqlalchemy.orm.attributes import set_committed_value

from tidings.contrib.database_clock import clock_query, version_at
from tidings.contrib.row_queries import (
    ROWS_PER_QUERY,
    Bind,
    RuleOf,
    bind_arguments,
    by_mapper,
    column_keys,
    identity_of,
    read_values,
    reads_snapshots,
)
from tidings.errors import BadData
from tidings.models.rules import Rule, named_attributes
from tidings.models.versions import EmitterClock, VersionOfKind

_emitter_clock = EmitterClock()


def reread(
    session: Session, objs: Iterable[object], binds: dict[object, Bind], rule_of: RuleOf, *, lock: bool = False
) -> set[object]:
    """Bring the columns of stored objects up to date. Returns the states of those whose row does not exist any more.

    One query per class and 200 rows. Classes with mutable types, composites or listeners for `refresh` need one more
    for each object that has other values. Only columns: relationships keep what they loaded.
    `binds`: the database of each mapper that writes it; the default is the session's.
    `rule_of`: the rule of a class. Deferred columns that it names are loaded as well.
    `lock`: also lock the rows until the end of the transaction, for rows that are not written yet.
    """
    gone: set[object] = set()
    with session.no_autoflush:
        for mapper, group in by_mapper(objs).items():
            bind = binds.get(mapper)
            for start in range(0, len(group), ROWS_PER_QUERY):
                chunk = group[start : start + ROWS_PER_QUERY]
                keys = column_keys(mapper, chunk, rule_of)
                rows = read_values(session, mapper, chunk, keys, bind, lock=lock)
                gone |= {
                    inspect(obj) for obj in chunk if not _update(session, obj, keys, rows.get(identity_of(obj)), bind)
                }
    return gone


def load_columns(session: Session, obj: object, rule_of: RuleOf) -> None:
    """Load the column values that `push_model` needs and that are expired or not loaded, with one query.

    SQL expressions (`column_property`) that the rule names are always read: other rows may have changed since.

    Raises:
        BadData: one of them cannot be read.
    """
    state: Any = inspect(obj)
    if not state.persistent or state.session is not session:
        return
    named = named_attributes(rule_of(type(obj)))
    expressions = [
        column.key
        for column in state.mapper.column_attrs
        if column.key in named and not isinstance(column.columns[0], Column)
    ]
    with session.no_autoflush:
        if unloaded := [key for key in column_keys(state.mapper, [obj], rule_of) if key in state.unloaded]:
            # Not by reading the attributes, which raise if they were loaded with `raiseload`.
            rows = read_values(session, state.mapper, [obj], unloaded, None, lock=False)
            if not _update(session, obj, unloaded, rows.get(identity_of(obj)), None):
                raise BadData(f"the row of this {type(obj).__name__} does not exist any more, and was not loaded")
        if expressions:
            session.expire(obj, expressions)
        for key in (*unloaded, *expressions):
            _read(obj, key)


def _read(obj: object, key: str) -> None:
    try:
        getattr(obj, key)
    except InvalidRequestError as error:
        raise BadData(f"{type(obj).__name__}.{key} cannot be loaded: {error}") from error


def row_key(obj: object) -> object:
    """What two objects of one row have in common. Only stored objects have it."""
    state: Any = inspect(obj)
    return state.key or state


def session_of(obj: object) -> Session | None:
    """The session of a mapped object; None for other objects."""
    state: Any = inspect(obj, raiseerr=False)
    return state.session if isinstance(state, InstanceState) else None


class DatabaseClock:
    """Versions by the clock of the database, which is read once per database. `binds`: as for `reread`."""

    def __init__(self, session: Session, binds: dict[object, Bind]) -> None:
        self._session = session
        self._binds = binds
        self._versions: dict[object, VersionOfKind] = {}

    def version(self, obj: object, rule: Rule) -> VersionOfKind | None:
        """The version of a row that this transaction has locked, by the clock of this machine on SQLite.

        None: its rule or its class has another version.
        """
        if rule.version is not None or _counts_versions(obj):
            return None
        state: Any = inspect(obj)
        bind = self._binds.get(state.mapper)
        if bind not in self._versions:
            connection = self._session.connection(bind_arguments=bind_arguments(state.mapper, bind))
            query = clock_query(connection.dialect.name)
            clock_us = None if query is None else connection.scalar(text(query))
            self._versions[bind] = _emitter_clock.version() if clock_us is None else version_at(clock_us)
        return self._versions[bind]


def _counts_versions(obj: object) -> bool:
    """Whether the mapper or an integer attribute `version` counts the versions of this object."""
    state: Any = inspect(obj)
    counter = state.mapper.version_id_col
    key = "version" if counter is None else state.mapper.get_property_by_column(counter).key
    return isinstance(state.dict.get(key), int)


def expired_columns(obj: object) -> set[str]:
    """The columns whose values are in the database only."""
    state: Any = inspect(obj)
    keys = (column.key for column in state.mapper.column_attrs if isinstance(column.columns[0], Column))
    return {key for key in keys if key in state.expired_attributes and key not in state.dict}


def has_changed(obj: object, expired: set[str]) -> bool:
    """Whether a flush writes a column. A changed collection alone does not count.

    `expired`: the expired columns before this flush. After it, a column that was set to an SQL expression is one.
    """
    state: Any = inspect(obj)
    # SQL expressions do not change. The discriminator of concrete inheritance is one.
    columns = (column for column in state.mapper.column_attrs if isinstance(column.columns[0], Column))
    is_set = any(state.attrs[column.key].history.has_changes() for column in columns)
    return is_set or not expired_columns(obj) <= expired


def _update(session: Session, obj: object, keys: list[str], row: dict[str, object] | None, bind: Bind | None) -> bool:
    """Take over the values that differ. Returns whether the row exists."""
    state: Any = inspect(obj)
    if state.detached:
        # It left the session after the flush, which therefore cannot refresh it.
        for key, value in (row or {}).items():
            set_committed_value(obj, key, value)
        return True
    if row is None:
        # Perhaps the database returns the key in another form: padded, or in other case.
        return _refresh(session, obj, keys, bind)
    differing = [key for key, value in row.items() if _differs(state, key, value)]
    is_own_database = bind is None or session.get_bind(state.mapper) is bind
    if differing and is_own_database and state.manager.dispatch.refresh:
        # Something listens for loaded values: mutable types, composites, or the application.
        return _refresh(session, obj, differing, bind)
    for key in differing:
        set_committed_value(obj, key, row[key])
    return True


def _refresh(session: Session, obj: object, keys: list[str], bind: Bind | None) -> bool:
    """Load the columns of one object again. Returns whether the row exists."""
    state: Any = inspect(obj)
    previous = {key: state.dict[key] for key in keys if key in state.dict}
    connection = session.connection(bind_arguments=bind_arguments(state.mapper, bind))
    locks = reads_snapshots(connection)
    if locks and state.mapper.version_id_col is not None:
        # SQLAlchemy checks the version of what it locks.
        keys = [*dict.fromkeys([*keys, state.mapper.get_property_by_column(state.mapper.version_id_col).key])]
    try:
        session.refresh(obj, keys, with_for_update={"read": True} if locks else None)
    except InvalidRequestError:
        # The refresh has expired them. What was not loaded is not known any more.
        for key in keys:
            set_committed_value(obj, key, previous.get(key))
        return False
    return True


def _differs(state: Any, key: str, value: object) -> bool:
    if key not in state.dict:
        # Never set: SQLAlchemy inserted NULL and reads None. With a callable it is deferred.
        is_deferred = key in state.callables or state.manager[key].impl.callable_ is not None
        return value is not None or key in state.expired_attributes or is_deferred
    present = state.dict[key]
    # Arrays compare element by element: what is not clearly equal differs.
    if state.mapper.attrs[key].columns[0].type.compare_values(present, value) is not True:
        return True
    # Equal, but not in JSON: 1 and True, 1.5 and Decimal("1.50"), one time in two time zones.
    return isinstance(value, _FORMS) and (type(present) is not type(value) or str(present) != str(value))


_FORMS = (int, float, Decimal, str, date, time)
