"""The rows of SQLAlchemy objects as the database has them, read in the transaction that changes them.

A session knows only what it loaded. Another transaction, a trigger or a bulk UPDATE may have changed other columns of
the row. After the flush this transaction has the row locked, so what it reads then is the row after its commit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import date, time
from decimal import Decimal
from typing import Any

from sqlalchemy import Column, Join, Table, and_, inspect, or_, select, text
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import InstanceState, Session
from sqlalchemy.orm.attributes import set_committed_value
from sqlalchemy.sql import visitors

from tidings.contrib.database_clock import clock_query, version_at
from tidings.models.rules import Rule, named_attributes
from tidings.models.versions import EmitterClock, VersionOfKind

# Any: SQLAlchemy's mappers, states, engines and connections are generic in the application's classes.
Bind = Any
RuleOf = Callable[[type], Rule]

ROWS_PER_QUERY = 200
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
        for mapper, group in _by_mapper(objs).items():
            bind = binds.get(mapper)
            for start in range(0, len(group), ROWS_PER_QUERY):
                chunk = group[start : start + ROWS_PER_QUERY]
                keys = _column_keys(mapper, chunk, rule_of)
                rows = _rows(session, mapper, chunk, keys, bind, lock=lock)
                gone |= {
                    inspect(obj) for obj in chunk if not _update(session, obj, keys, rows.get(_identity(obj)), bind)
                }
    return gone


def load_columns(session: Session, obj: object, rule_of: RuleOf) -> None:
    """Load the column values that `push_model` needs and that are expired or not loaded, with one query.

    SQL expressions (`column_property`) that the rule names are always read: other rows may have changed since.
    """
    state: Any = inspect(obj)
    if not state.persistent or state.session is not session:
        return
    unloaded = [key for key in _column_keys(state.mapper, [obj], rule_of) if key in state.unloaded]
    named = named_attributes(rule_of(type(obj)))
    expressions = [
        column.key
        for column in state.mapper.column_attrs
        if column.key in named and not isinstance(column.columns[0], Column)
    ]
    with session.no_autoflush:
        if expressions:
            session.expire(obj, expressions)
        for key in (*unloaded, *expressions):
            getattr(obj, key)


def lock_base_rows(session: Session, objs: Iterable[object]) -> None:
    """Lock the row of the base table of objects that are changed and whose columns are in several tables.

    Two transactions that change different tables of one object lock different rows. Neither would see the other one.
    SQLAlchemy writes the base table first, so this adds a query but no new order of locks.
    """
    changed = [obj for obj in objs if inspect(obj).modified]
    for mapper, group in _by_mapper(changed).items():
        table = mapper.base_mapper.local_table
        # With concrete inheritance each class has its own table.
        if mapper.local_table is table or mapper.concrete or not isinstance(table, Table):
            continue
        columns = mapper.base_mapper.primary_key
        identities = _in_order(_identity(obj) for obj in group)
        with session.no_autoflush:
            connection = session.connection(bind_arguments={"bind": session.get_bind(mapper)})
            for start in range(0, len(identities), ROWS_PER_QUERY):
                matches = _matches(columns, identities[start : start + ROWS_PER_QUERY])
                connection.execute(select(*columns).where(matches).order_by(*columns).with_for_update(key_share=True))


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
            connection = self._session.connection(bind_arguments=_bind_arguments(state.mapper, bind))
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
    is_set = any(state.attrs[column.key].history.has_changes() for column in state.mapper.column_attrs)
    return is_set or not expired_columns(obj) <= expired


def _rows(
    session: Session, mapper: Any, group: Sequence[object], keys: Sequence[str], bind: Bind | None, *, lock: bool
) -> dict[tuple[object, ...], dict[str, object]]:
    """The present values of these columns of each object that exists, by its primary key."""
    if any(inspect(obj).identity_token is not None for obj in group):
        # Only the session knows the shard of each object.
        return {}
    primary_key = mapper.primary_key
    matches = _matches(primary_key, [_identity(obj) for obj in group])
    # Tables, not attributes: with_polymorphic would add a second join, and single-table inheritance a criterion.
    columns = (mapper.attrs[key].columns[0] for key in keys)
    query = select(*primary_key, *columns).select_from(mapper.persist_selectable).where(matches)
    # Not through the session: its criteria could hide a row that was only marked as deleted.
    connection = session.connection(bind_arguments=_bind_arguments(mapper, bind))
    if lock:
        query = query.order_by(*primary_key).with_for_update(of=_lockable(mapper))
    elif _reads_snapshots(connection):
        query = query.with_for_update(read=True)
    width = len(primary_key)
    return {tuple(row[:width]): dict(zip(keys, row[width:], strict=True)) for row in connection.execute(query)}


def _lockable(mapper: Any) -> list[Any] | None:
    """The tables to lock: those of the primary key if there is an outer join. None: all tables."""
    joins = [element for element in visitors.iterate(mapper.persist_selectable) if isinstance(element, Join)]
    if any(join.isouter or join.full for join in joins):
        return list(dict.fromkeys(column.table for column in mapper.primary_key))
    return None


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
    connection = session.connection(bind_arguments=_bind_arguments(state.mapper, bind))
    locks = _reads_snapshots(connection)
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


def _reads_snapshots(connection: Any) -> bool:
    """Whether a plain SELECT reads the snapshot of the transaction, which may be older than the lock of the row."""
    return connection.dialect.name in {"mysql", "mariadb"}


def _differs(state: Any, key: str, value: object) -> bool:
    if key not in state.dict:
        # Never set: SQLAlchemy inserted NULL and reads None.
        return value is not None or key in state.expired_attributes
    present = state.dict[key]
    # Arrays compare element by element: what is not clearly equal differs.
    if state.mapper.attrs[key].columns[0].type.compare_values(present, value) is not True:
        return True
    # Equal, but not in JSON: 1 and True, 1.5 and Decimal("1.50"), one time in two time zones.
    return isinstance(value, _FORMS) and (type(present) is not type(value) or str(present) != str(value))


_FORMS = (int, float, Decimal, str, date, time)


def _column_keys(mapper: Any, objs: Sequence[object], rule_of: RuleOf) -> list[str]:
    """The columns that are loaded by default, and deferred ones that are loaded or that the rule names."""
    loaded = {key for obj in objs for key in inspect(obj).dict} | named_attributes(rule_of(mapper.class_))
    return [
        column.key
        for column in mapper.column_attrs
        if isinstance(column.columns[0], Column) and (not column.deferred or column.key in loaded)
    ]


def _by_mapper(objs: Iterable[object]) -> dict[Any, list[object]]:
    groups: dict[Any, list[object]] = {}
    for obj in objs:
        state: Any = inspect(obj)
        if state.persistent or state.detached:
            groups.setdefault(state.mapper, []).append(obj)
    return groups


def _identity(obj: object) -> tuple[object, ...]:
    state: Any = inspect(obj)
    return tuple(state.identity)


def _in_order(identities: Iterable[tuple[object, ...]]) -> list[tuple[object, ...]]:
    """In one order in all transactions. Keys such as those of an Enum have none of their own."""
    keys: list[Any] = list(identities)
    try:
        return sorted(keys)
    except TypeError:
        return sorted(keys, key=repr)


def _matches(columns: Sequence[Any], identities: Iterable[Sequence[object]]) -> Any:
    if len(columns) == 1:
        return columns[0].in_([identity[0] for identity in identities])
    return or_(*(and_(*map(_equals, columns, identity)) for identity in identities))


def _equals(column: Any, value: object) -> Any:
    return column == value


def _bind_arguments(mapper: object, bind: Bind | None) -> dict[str, object]:
    return {"mapper": mapper} if bind is None else {"bind": bind}
