"""Queries for the columns of SQLAlchemy objects, and the locks of their rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sqlalchemy import Column, Join, Table, and_, inspect, or_, select
from sqlalchemy.orm import Session
from sqlalchemy.sql import visitors

from tidings.models.rules import Rule, named_attributes

# Any: SQLAlchemy's mappers, states, engines and connections are generic in the application's classes.
Bind = Any
RuleOf = Callable[[type], Rule]

ROWS_PER_QUERY = 200


def read_values(
    session: Session,
    mapper: Any,
    group: Sequence[object],
    keys: Sequence[str],
    bind: Bind | None,
    *,
    lock: bool,
    key_share: bool = False,
) -> dict[tuple[object, ...], dict[str, object]]:
    """The present values of these columns of each object that exists, by its primary key.

    `lock`: also lock the rows until the end of the transaction. `key_share`: others may still refer to them.
    """
    if any(inspect(obj).identity_token is not None for obj in group):
        # Only the session knows the shard of each object.
        return {}
    primary_key = mapper.primary_key
    matches = _matches(primary_key, [identity_of(obj) for obj in group])
    # Tables, not attributes: with_polymorphic would add a second join, and single-table inheritance a criterion.
    columns = (mapper.attrs[key].columns[0] for key in keys)
    query = select(*primary_key, *columns).select_from(mapper.persist_selectable).where(matches)
    # Not through the session: its criteria could hide a row that was only marked as deleted.
    connection = session.connection(bind_arguments=bind_arguments(mapper, bind))
    if lock:
        query = query.order_by(*primary_key).with_for_update(of=_lockable(mapper), key_share=key_share)
    elif reads_snapshots(connection):
        query = query.with_for_update(read=True)
    width = len(primary_key)
    return {tuple(row[:width]): dict(zip(keys, row[width:], strict=True)) for row in connection.execute(query)}


def lock_base_rows(session: Session, objs: Iterable[object]) -> None:
    """Lock the row of the base table of objects that are changed and whose columns are in several tables.

    Two transactions that change different tables of one object lock different rows. Neither would see the other one.
    SQLAlchemy writes the base table first, so this adds a query but no new order of locks.
    """
    changed = [obj for obj in objs if inspect(obj).modified]
    for mapper, group in by_mapper(changed).items():
        table = mapper.base_mapper.local_table
        # With concrete inheritance each class has its own table.
        if mapper.local_table is table or mapper.concrete or not isinstance(table, Table):
            continue
        columns = mapper.base_mapper.primary_key
        identities = _in_order(identity_of(obj) for obj in group)
        with session.no_autoflush:
            connection = session.connection(bind_arguments={"bind": session.get_bind(mapper)})
            for start in range(0, len(identities), ROWS_PER_QUERY):
                matches = _matches(columns, identities[start : start + ROWS_PER_QUERY])
                connection.execute(select(*columns).where(matches).order_by(*columns).with_for_update(key_share=True))


def column_keys(mapper: Any, objs: Sequence[object], rule_of: RuleOf) -> list[str]:
    """The columns that are loaded by default, and deferred ones that are loaded or that the rule names."""
    loaded = {key for obj in objs for key in inspect(obj).dict} | named_attributes(rule_of(mapper.class_))
    return [
        column.key
        for column in mapper.column_attrs
        if isinstance(column.columns[0], Column) and (not column.deferred or column.key in loaded)
    ]


def by_mapper(objs: Iterable[object]) -> dict[Any, list[object]]:
    """The stored objects by their mapper, in one order in all processes, so that they lock rows in one order."""
    groups: dict[Any, list[object]] = {}
    for obj in objs:
        state: Any = inspect(obj)
        if state.persistent or state.detached:
            groups.setdefault(state.mapper, []).append(obj)
    return dict(sorted(groups.items(), key=lambda item: _sort_key(item[0])))


def identity_of(obj: object) -> tuple[object, ...]:
    """The primary key of a stored object, as it was loaded."""
    state: Any = inspect(obj)
    return tuple(state.identity)


def reads_snapshots(connection: Any) -> bool:
    """Whether a plain SELECT reads the snapshot of the transaction, which may be older than the lock of the row."""
    return connection.dialect.name in {"mysql", "mariadb"}


def bind_arguments(mapper: object, bind: Bind | None) -> dict[str, object]:
    """The arguments with which a session finds the database of a mapper. `bind`: this one."""
    return {"mapper": mapper} if bind is None else {"bind": bind}


def _sort_key(mapper: Any) -> str:
    return f"{mapper.class_.__module__}.{mapper.class_.__qualname__}"


def _lockable(mapper: Any) -> list[Any] | None:
    """The tables to lock: those of the primary key if there is an outer join. None: all tables."""
    joins = [element for element in visitors.iterate(mapper.persist_selectable) if isinstance(element, Join)]
    if any(join.isouter or join.full for join in joins):
        return list(dict.fromkeys(column.table for column in mapper.primary_key))
    return None


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
