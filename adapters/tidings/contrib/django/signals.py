"""`@autopush`: push the objects of a model when they are saved or deleted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar, overload

from django.db import transaction
from django.db.models.signals import class_prepared, post_delete, post_save

from tidings.batch import Batch
from tidings.contrib.changes import explicit_channels
from tidings.contrib.delivery import deliver
from tidings.contrib.django.commit import is_open, publish_on_commit
from tidings.contrib.django.configured import emitter, on_error
from tidings.errors import TidingsError
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
    _listen(model)
    return model


def _registered(model: Any, rule: Any) -> Any:
    register(model, **rule)
    return model


def _listen(sender: Any, **_: Any) -> None:
    """Connect the signals of one model. For all models, Django would load every row that any of them deletes."""
    if getattr(sender, "__autopush__", False):
        post_save.connect(_on_saved, sender=sender, dispatch_uid="tidings")
        post_delete.connect(_on_deleted, sender=sender, dispatch_uid="tidings")


def _on_saved(instance: Any, *, created: bool, raw: bool, using: str, **_: Any) -> None:
    # Raw: a fixture is being loaded, and rows that it refers to may not exist yet.
    if not raw:
        _push(_current(instance, using), "created" if created else "updated", using)


def _on_deleted(instance: Any, *, using: str, **_: Any) -> None:
    _push(instance, "deleted", using)


def _current(instance: Any, using: str) -> Any:
    """The object, loaded again from the database if a field is an expression (`F("count") + 1`)."""
    meta = instance._meta  # noqa: SLF001
    values = (instance.__dict__.get(field.attname) for field in meta.concrete_fields)
    if any(hasattr(value, "resolve_expression") for value in values):
        return type(instance)._base_manager.using(using).get(pk=instance.pk)  # noqa: SLF001
    return instance


def _push(instance: Any, op: Op, using: str) -> None:
    channels = explicit_channels(emitter().rule(type(instance)), instance)
    if channels == []:
        return

    def add(batch: Batch) -> None:
        batch.push_model(instance, channels=channels, op=op)

    if is_open(transaction.get_connection(using)):
        publish_on_commit(add, using)
        return
    # The row is already stored: an error here cannot undo it.
    batch = emitter().batch().begin()
    try:
        add(batch)
    except TidingsError as error:
        on_error()(error, batch)
    else:
        deliver(batch, on_error())


class_prepared.connect(_listen)
