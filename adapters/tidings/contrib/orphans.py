"""Objects that a flush of SQLAlchemy deletes without `session.delete`, for they lost their parent (`delete-orphan`)."""

from __future__ import annotations

from typing import Any

from sqlalchemy import inspect
from sqlalchemy.orm import Session


def orphans(session: Session) -> list[object]:
    """The stored objects that the next flush deletes as orphans."""
    # By state, because objects may be unhashable.
    objects = {inspect(obj): obj for changed in session.dirty for obj in (changed, *_removed(changed))}
    return [obj for state, obj in objects.items() if _is_orphan(state)]


def _removed(parent: object) -> list[object]:
    """The objects that were removed from relationships with `delete-orphan`. They may have no change of their own."""
    state: Any = inspect(parent)
    owning = (relation.key for relation in state.mapper.relationships if relation.cascade.delete_orphan)
    return [child for key in owning for child in state.attrs[key].history.deleted if child is not None]


def _is_orphan(state: Any) -> bool:
    # The question that the flush asks. Nothing public does.
    return bool(state.persistent and state.mapper._is_orphan(state))  # noqa: SLF001
