"""`@autopush`: a model whose objects are pushed when they are saved or deleted."""

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

    `@autopush` where the class has `__channels__`, else `@autopush(channels="orders:{id}")`: the arguments are those
    of `tidings.models.register`. A function as `channels` may name none: then that object is not pushed.
    `__autopush__ = True` in the class, or in an abstract one above it, is the same.
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
    """Listen to one model. To all would make Django load every row that any model deletes."""
    if getattr(sender, "__autopush__", False):
        post_save.connect(_saved, sender=sender, dispatch_uid="tidings")
        post_delete.connect(_deleted, sender=sender, dispatch_uid="tidings")


def _saved(instance: Any, *, created: bool, raw: bool, using: str, **_: Any) -> None:
    # Raw: a fixture is being loaded, and what it refers to may not be there yet.
    if not raw:
        _tell(_current(instance, using), "created" if created else "updated", using)


def _deleted(instance: Any, *, using: str, **_: Any) -> None:
    _tell(instance, "deleted", using)


def _current(instance: Any, using: str) -> Any:
    """The object, or as the database has it if a field is still an expression (`F("count") + 1`)."""
    meta = instance._meta  # noqa: SLF001
    values = (instance.__dict__.get(field.attname) for field in meta.concrete_fields)
    if any(hasattr(value, "resolve_expression") for value in values):
        return type(instance)._base_manager.using(using).get(pk=instance.pk)  # noqa: SLF001
    return instance


def _tell(instance: Any, op: Op, using: str) -> None:
    channels = explicit_channels(emitter().rule(type(instance)), instance)
    if channels == []:
        return

    def add(batch: Batch) -> None:
        batch.push_model(instance, channels=channels, op=op)

    if is_open(transaction.get_connection(using)):
        publish_on_commit(add, using)
        return
    # The row is there already: no mistake can undo it.
    batch = emitter().batch().begin()
    try:
        add(batch)
    except TidingsError as error:
        on_error()(error, batch)
    else:
        deliver(batch, on_error())


class_prepared.connect(_listen)
