"""`@autopush`: push the objects of a model when they are saved or deleted."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any, TypeVar, overload

from django.db import transaction
from django.db.models.signals import class_prepared, post_delete, post_save, pre_delete, pre_save

from tidings.contrib.django.commit import is_open, publish_row_on_commit, publish_stored_row
from tidings.contrib.django.configured import emitter
from tidings.contrib.django.previous import RowBefore, may_move, read_previous
from tidings.contrib.django.rows import read_row
from tidings.models.describe import Op
from tidings.models.rules import Channels, Version, register

Model = TypeVar("Model", bound=type)


@overload
def autopush(model: Model, /) -> Model: ...
@overload
def autopush(
    *,
    channels: Channels | None = None,
    fields: Iterable[str] | None = None,
    exclude: Iterable[str] | None = None,
    version: str | Callable[[Any], Version] | None = None,
    reread: bool | None = None,
) -> Callable[[Model], Model]: ...
def autopush(model: Any = None, /, **rule: Any) -> Any:
    """Push the objects of a model, and of its subclasses and proxies, whenever they are saved or deleted.

    Use `@autopush` if the class has `__channels__`, otherwise `@autopush(channels="orders:{id}")` with the arguments
    of `tidings.models.register`. If `channels` is a function that returns no channel, the object is not pushed.
    `__autopush__ = True` in the class, or in an abstract base class, has the same effect.
    """
    if model is None:
        return lambda cls: autopush(_registered(cls, rule))
    model.__autopush__ = True
    # Those that exist already: of a model that another application defines, as `autopush(User)` in `ready()`.
    for existing in _with_subclasses(model):
        _listen(existing)
    return model


def _with_subclasses(model: Any) -> list[Any]:
    return [model, *(heir for subclass in model.__subclasses__() for heir in _with_subclasses(subclass))]


def _registered(model: Any, rule: Any) -> Any:
    register(model, **rule)
    return model


def _listen(sender: Any, **_: Any) -> None:
    """Connect the signals of one model. For all models, Django would load every row that any of them deletes."""
    if getattr(sender, "__autopush__", False):
        pre_save.connect(_on_save, sender=sender, dispatch_uid="tidings")
        post_save.connect(_on_saved, sender=sender, dispatch_uid="tidings")
        pre_delete.connect(_on_delete, sender=sender, dispatch_uid="tidings")
        post_delete.connect(_on_deleted, sender=sender, dispatch_uid="tidings")


def _on_save(instance: Any, *, raw: bool, using: str, update_fields: Collection[str] | None = None, **_: Any) -> None:
    """Read and lock the row of an object that is about to be saved, if that may change its channels."""
    instance.__dict__.pop(_PREVIOUS, None)
    if raw or not _is_reread(instance) or _is_inserted(instance):
        return
    rule = emitter().rule(type(instance))
    if may_move(instance, rule, update_fields):
        instance.__dict__[_PREVIOUS] = read_previous(instance, rule, using)


def _is_inserted(instance: Any) -> bool:
    """Whether Django inserts a row without an UPDATE before: it does so for a new object with a default key."""
    key = instance._meta.pk  # noqa: SLF001
    return bool(instance._state.adding and (key.has_default() or getattr(key, "has_db_default", bool)()))  # noqa: SLF001


def _on_saved(instance: Any, *, created: bool, raw: bool, using: str, **_: Any) -> None:
    # Raw: a fixture is being loaded, and rows that it refers to may not exist yet.
    previous = instance.__dict__.pop(_PREVIOUS, None)
    if not raw:
        _push(instance, "created" if created else "updated", using, previous)


def _on_delete(instance: Any, *, using: str, origin: Any = None, **_: Any) -> None:
    """Read and lock the row of an object that is about to be deleted. Those of a queryset were loaded just now."""
    if origin is instance and _is_reread(instance):
        instance.__dict__[_LATEST] = read_row(instance, using, lock=True)


def _on_deleted(instance: Any, *, using: str, **_: Any) -> None:
    latest = instance.__dict__.pop(_LATEST, instance)
    # Without a row, another transaction has deleted it, and publishes that.
    if latest is not None:
        _push(latest, "deleted", using)


_LATEST = "_tidings_latest"
_PREVIOUS = "_tidings_previous"


def _is_reread(instance: Any) -> bool:
    return emitter().rule(type(instance)).reread is not False


def _push(instance: Any, op: Op, using: str, previous: RowBefore | None = None) -> None:
    if is_open(transaction.get_connection(using)):
        # What cannot be published raises here, and so ends the transaction.
        publish_row_on_commit(instance, op, using, reread=_is_reread(instance), previous=previous)
    else:
        publish_stored_row(instance, op, using, reread=_is_reread(instance), previous=previous)


class_prepared.connect(_listen)
