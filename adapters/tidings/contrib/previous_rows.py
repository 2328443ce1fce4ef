"""The rows of a session as they were before its transaction changed them, and the channels that showed them.

A list of a channel shows a row until it receives the deletion. So a row whose channel or primary key changes is deleted
in its previous channels. They are those of the row before the flush: a session may have loaded an older one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Column, Connection, inspect
from sqlalchemy.orm import Session, make_transient_to_detached
from sqlalchemy.orm.attributes import set_committed_value
from sqlalchemy.orm.interfaces import MANYTOONE

from tidings.contrib.changes import channels_of
from tidings.contrib.database_rows import load_columns
from tidings.contrib.row_queries import ROWS_PER_QUERY, RuleOf, by_mapper, column_keys, identity_of, read_values
from tidings.errors import TidingsError
from tidings.models.rules import Rule, channel_templates, template_names

_SESSIONS = "tidings.previous_rows"
# By mapper and templates: the attributes whose change may change the channels.
_by_templates: WeakKeyDictionary[Any, dict[tuple[str, ...], frozenset[str] | None]] = WeakKeyDictionary()
_logger = logging.getLogger("tidings")


@dataclass(frozen=True, slots=True)
class PreviousRow:
    """A row before a transaction: a separate object with its values, its primary key, and its channels."""

    obj: object
    key: tuple[object, ...]
    channels: list[str]

    def has_key_of(self, present: object) -> bool:
        """Whether the row still has its primary key."""
        return identity_of(present) == self.key


def may_move(obj: object, rule: Rule) -> bool:
    """Whether this change of an object may change its channels or its primary key. Before or just after the flush.

    A function, or a template with a property of the class, may depend on any column.
    """
    state: Any = inspect(obj)
    mapper = state.mapper
    if not state.persistent or rule.channels is None:
        return False
    if callable(rule.channels):
        return True
    attributes = _moving_attributes(mapper, channel_templates(rule.channels))
    return attributes is None or any(state.attrs[key].history.has_changes() for key in attributes)


def _moving_attributes(mapper: Any, templates: tuple[str, ...]) -> frozenset[str] | None:
    """The attributes whose change may change the channels that the templates give. None: any attribute."""
    known = _by_templates.setdefault(mapper, {})
    if templates not in known:
        known[templates] = _find_moving_attributes(mapper, templates)
    return known[templates]


def _find_moving_attributes(mapper: Any, templates: tuple[str, ...]) -> frozenset[str] | None:
    names = {name for template in templates for name in template_names(template)}
    columns = {column.key: column.columns[0] for column in mapper.column_attrs}
    if any(not isinstance(columns.get(name), Column) for name in names):
        return None
    keys = {*names, *(mapper.get_property_by_column(column).key for column in mapper.primary_key)}
    # The flush sets foreign keys from relationships.
    foreign = {columns[key] for key in keys}
    relations = {
        relation.key
        for relation in mapper.relationships
        if relation.direction is MANYTOONE and not foreign.isdisjoint(relation.local_columns)
    }
    return frozenset(keys | relations)


def read_previous(session: Session, objs: Iterable[object], rule_of: RuleOf) -> dict[object, PreviousRow]:
    """Lock and read the rows of these objects, which the flush has not written yet. The result is by their states.

    One query per class and 200 rows. Without sharded sessions: only those know the shard of each object.
    """
    rows: dict[object, PreviousRow] = {}
    if hasattr(session, "shard_chooser"):
        return rows
    for mapper, group in by_mapper(objs).items():
        bind = session.get_bind(mapper)
        second = _second_session(session, session.connection(bind_arguments={"bind": bind}))
        for start in range(0, len(group), ROWS_PER_QUERY):
            chunk = group[start : start + ROWS_PER_QUERY]
            keys = column_keys(mapper, chunk, rule_of)
            values = read_values(session, mapper, chunk, keys, bind, lock=True, key_share=True)
            for obj in chunk:
                if stored := values.get(identity_of(obj)):
                    rows[inspect(obj)] = _previous(obj, stored, second, rule_of)
    return rows


def previous_by_history(session: Session, obj: object, rule_of: RuleOf) -> PreviousRow:
    """The row as far as the session knows it: with the values that it had loaded before they were changed."""
    state: Any = inspect(obj)
    values: dict[str, object] = {}
    for key in column_keys(state.mapper, [obj], rule_of):
        history = state.attrs[key].history
        # Neither: it was set without having been loaded.
        if known := (history.deleted or history.unchanged):
            values[key] = known[0]
    second = None
    if not hasattr(session, "shard_chooser"):
        bind = session.get_bind(state.mapper)
        second = _second_session(session, session.connection(bind_arguments={"bind": bind}))
    return _previous(obj, values, second, rule_of)


def previous_of(deleted: object, rule_of: RuleOf) -> PreviousRow:
    """The row of a deleted object, in whose place another object was stored."""
    return PreviousRow(deleted, identity_of(deleted), _channels(deleted, None, rule_of))


def close_previous(session: Session) -> None:
    """Close what previous rows loaded their relationships with. After the transaction."""
    for second in session.info.pop(_SESSIONS, ()):
        second.close()


def _second_session(session: Session, connection: Connection) -> Session:
    """A session in the same transaction of the database, because in `session` the row is already another object."""
    second = Session(connection, join_transaction_mode="rollback_only", autoflush=False, info={"autopush": False})
    session.info.setdefault(_SESSIONS, []).append(second)
    return second


def _previous(obj: object, values: dict[str, object], second: Session | None, rule_of: RuleOf) -> PreviousRow:
    state: Any = inspect(obj)
    mapper, key = state.mapper, identity_of(obj)
    previous = mapper.class_manager.new_instance()
    for column, value in zip(mapper.primary_key, key, strict=True):
        set_committed_value(previous, mapper.get_property_by_column(column).key, value)
    for name, value in values.items():
        set_committed_value(previous, name, value)
    make_transient_to_detached(previous)
    if second is not None:
        second.add(previous)
    return PreviousRow(previous, key, _channels(previous, second, rule_of))


def _channels(previous: object, second: Session | None, rule_of: RuleOf) -> list[str]:
    try:
        if second is not None:
            load_columns(second, previous, rule_of)
        return channels_of(rule_of(type(previous)), previous)
    except TidingsError:
        # It has never been published: a template had no value.
        return []
    except Exception as error:  # noqa: BLE001
        # The application's own code. It must not keep the row from being changed.
        name = type(previous).__name__
        _logger.warning("lists may keep a changed %s: channels of its previous row raised %s", name, repr(error)[:100])
        return []
