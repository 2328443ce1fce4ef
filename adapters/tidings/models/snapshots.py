"""The present state of a backend's object, read without a query and without importing its framework.

An object with `to_dict()` is what that returns. Otherwise SQLAlchemy and Django models are their columns, without
relationships, pydantic models their own JSON form, and dataclasses their fields. Names that begin with `_` are left
out unless the caller names them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import fields as dataclass_fields
from inspect import getattr_static
from typing import Any

from tidings.errors import BadData, BadRequest

# Any: classes that we do not import. Their values are checked where they are used.

# The same depth as in `payload`.
_DEPTH_MAX = 64
_NOTHING = object()
_DEFERRED = "is deferred; call refresh_from_db() first, or use exclude or fields"
_UNFLUSHED = "is an SQL expression; flush the session first"
_UNREAD = "is an expression; call refresh_from_db() first"
_RELATED = "is a relationship, which is left out; push the other object by itself, or return it from to_dict()"


class Snapshot:
    """The readable attributes of one object.

    `fields`: what is sent by default. `columns`: the loaded attributes of a mapped object. None: an ordinary object,
    whose attributes are safe to read. `missing`: attributes that cannot be read without a query, each with advice.
    Those also in `optional` are left out unless the caller names them.
    `version_name`: the attribute in which its mapper counts versions.
    """

    def __init__(
        self,
        obj: object,
        fields: Mapping[str, object],
        *,
        columns: Mapping[str, object] | None = None,
        missing: Mapping[str, str] | None = None,
        optional: Collection[str] = (),
        version_name: str | None = None,
    ) -> None:
        self.name = type(obj).__name__
        self.fields = fields
        self.columns = columns
        self.version_name = version_name
        self._obj = obj
        # With to_dict(), the object itself decides whether private names are sent.
        self._has_to_dict = False
        self._missing = missing or {}
        self._optional = frozenset(optional)

    @classmethod
    def from_to_dict(cls, obj: object, fields: Mapping[str, object], attributes: Snapshot | None) -> Snapshot:
        """The snapshot of an object whose `to_dict` returned `fields`. Other attributes are read from `attributes`."""
        if attributes is None:
            result = cls(obj, fields)
        else:
            result = attributes
            result.fields = fields
        result._has_to_dict = True  # noqa: SLF001
        return result

    def read(self, name: str) -> object:
        """One attribute.

        Raises:
            BadData: it does not exist, or reading it needs a query.
        """
        if self.columns is not None and name in self.columns:
            return self.columns[name]
        if name in self._missing:
            raise BadData(f"{self.name}.{name} {self._missing[name]}")
        value = getattr(self._obj, name, self.fields.get(name, _NOTHING))
        if value is _NOTHING:
            raise BadData(f"{self.name} has no attribute {name!r}")
        return value

    def read_if_present(self, name: str) -> object:
        """One attribute, or None if it does not exist. Of a mapped object only columns count.

        Raises:
            BadData: it exists, but reading it needs a query.
        """
        if self.columns is not None and name not in self.columns and name not in self._missing:
            return None
        exists = self.columns is not None or name in self.fields or hasattr(self._obj, name)
        return self.read(name) if exists else None

    def check_loaded(self) -> None:
        """Check that everything that is sent by default can be read.

        Raises:
            BadData: reading it needs a query.
        """
        for name in self._missing:
            if name not in self._optional:
                self.read(name)

    def select_fields(
        self,
        only: Collection[str] | None,
        exclude: Collection[str],
        *,
        path: str = "data.model",
        above: tuple[int, ...] = (),
    ) -> dict[str, object]:
        """The fields to send: all, or `only` these, without those in `exclude`.

        `path` is their place in the data, for error messages. `above` are the ids of the objects around them.

        Raises:
            BadRequest: a name that this object does not have. Otherwise a misspelt `exclude` would send a field that
                should stay private.
            BadData: a field that cannot be read without a query.
        """
        if unknown := sorted(name for name in {*(only or ()), *exclude} if not self._has(name)):
            raise BadRequest(f"{self.name} has no {', '.join(unknown)}; it has {', '.join(sorted(self.fields))}")
        names = [name for name in dict.fromkeys(self._default() if only is None else only) if name not in exclude]
        inside = (*above, id(self._obj))
        return {name: _plain(self._field(name), f"{path}.{name}", inside) for name in names}

    def _default(self) -> list[str]:
        unread = [name for name in self._missing if name not in self._optional]
        return [name for name in [*self.fields, *unread] if self._has_to_dict or not name.startswith("_")]

    def _field(self, name: str) -> object:
        return self.fields[name] if name in self.fields else self.read(name)

    def _has(self, name: str) -> bool:
        if name in self.fields or name in self._missing:
            return True
        # Static: a hybrid property of SQLAlchemy is computed also for the class, and may raise there.
        return getattr_static(type(self._obj), name, _NOTHING) is not _NOTHING


def snapshot(obj: object, *, deleted: bool = False) -> Snapshot:
    """The state of `obj`. `deleted`: the event is about its deletion.

    Raises:
        BadData: it is not of a supported kind, or its state does not allow it. SQLAlchemy: expired or deleted. Django:
            already without its primary key.
    """
    kind = type(obj)
    attributes = _attributes(obj, deleted=deleted)
    to_dict = getattr(kind, "to_dict", None)
    if callable(to_dict) and not isinstance(obj, type):
        return _from_to_dict(obj, to_dict, attributes)
    if attributes is None:
        raise BadData(
            f"a {kind.__name__} is not a model: push_model takes dataclasses, pydantic, SQLAlchemy and Django models "
            "and objects with to_dict(); send other data with emit"
        )
    return attributes


def _from_to_dict(obj: object, to_dict: Callable[[object], object], attributes: Snapshot | None) -> Snapshot:
    """The snapshot of an object that has `to_dict`; `attributes` is its snapshot without it."""
    if attributes is not None:
        # to_dict would load expired attributes silently.
        attributes.check_loaded()
    fields = to_dict(obj)
    if not isinstance(fields, Mapping) or not all(isinstance(name, str) for name in fields):
        raise BadData(f"{type(obj).__name__}.to_dict() returned no dict with strings as keys")
    return Snapshot.from_to_dict(obj, fields, attributes)


def _attributes(obj: object, *, deleted: bool) -> Snapshot | None:
    """The snapshot of an object of a supported kind, ignoring its `to_dict`."""
    if isinstance(obj, type):
        return None
    kind: Any = type(obj)
    if "_sa_instance_state" in getattr(obj, "__dict__", ()):
        return _sqlalchemy(obj, deleted=deleted)
    if hasattr(kind, "_meta") and hasattr(kind._meta, "concrete_fields"):  # noqa: SLF001
        return _django(obj, deleted=deleted)
    if callable(getattr(kind, "model_dump", None)) and hasattr(kind, "model_fields"):
        return Snapshot(obj, _pydantic(obj))
    if hasattr(kind, "__dataclass_fields__"):
        # Private fields stay readable for templates, but are not sent.
        return Snapshot(obj, {field.name: getattr(obj, field.name) for field in dataclass_fields(kind)})
    return None


def _pydantic(obj: Any) -> dict[str, object]:
    try:
        dumped: dict[str, object] = obj.model_dump(mode="json")
    except ValueError as error:
        raise BadData(f"{type(obj).__name__} has values that JSON cannot represent: {error}") from error
    return dumped


def _sqlalchemy(obj: Any, *, deleted: bool) -> Snapshot:
    state: Any = obj.__dict__["_sa_instance_state"]
    mapper, name = state.mapper, type(obj).__name__
    if (state.deleted or state.was_deleted) and not deleted:
        raise BadData(f"this {name} was deleted; use push_model(…, op='deleted')")
    if state.transient or state.pending:
        cure = "is not set yet; flush the session first"
    elif state.detached:
        cure = "is not loaded, and the object has left its session; push before, or use expire_on_commit=False"
    else:
        cure = "is not loaded (a commit or flush expired it); session.refresh() first, or use expire_on_commit=False"
    # Without SQL expressions (column_property): those expire with every flush.
    # Without the discriminator of concrete inheritance, which is no attribute of its class, or not its own.
    columns = [p for p in mapper.column_attrs if hasattr(_impl(state, p.key), "callable_")]
    sent_by_default = {p.key: not p.deferred and p.columns[0].__visit_name__ == "column" for p in columns}
    present = (key for key in sent_by_default if key in state.dict or _is_null(state, key))
    loaded = {key: _without_json_null(state.dict.get(key)) for key in present}
    computed = {key: _UNFLUSHED for key, value in loaded.items() if hasattr(value, "__visit_name__")}
    loaded = {key: value for key, value in loaded.items() if key not in computed}
    related = dict.fromkeys(mapper.relationships.keys(), _RELATED)
    version = mapper.version_id_col
    return Snapshot(
        obj,
        {key: value for key, value in loaded.items() if sent_by_default[key]},
        columns=loaded,
        missing={**related, **{key: cure for key in sent_by_default if key not in loaded}, **computed},
        optional=[*related, *(key for key, default in sent_by_default.items() if not default)],
        version_name=None if version is None else mapper.get_property_by_column(version).key,
    )


def _without_json_null(value: object) -> object:
    """The value, or None for SQLAlchemy's `JSON.NULL`, the `null` of a JSON column. It is a subclass of int."""
    return None if type(value).__name__ == "symbol" and getattr(value, "name", "") == "JSON_NULL" else value


def _is_null(state: Any, key: str) -> bool:
    """Whether an attribute of a stored row was never set: SQLAlchemy inserted NULL and reads None without a query."""
    is_stored = state.key is not None
    # With a callable the attribute is deferred: it is read with a query.
    is_deferred = key in state.callables or _impl(state, key).callable_ is not None
    return is_stored and not is_deferred and key not in state.expired_attributes


def _impl(state: Any, key: str) -> Any:
    return getattr(state.manager.get(key), "impl", None)


def _django(obj: Any, *, deleted: bool) -> Snapshot:
    meta = obj._meta  # noqa: SLF001
    # The key of several columns is a tuple.
    key = obj.pk if deleted else ()
    if key is None or (isinstance(key, tuple) and None in key):
        raise BadData(f"this {type(obj).__name__} has lost its primary key by delete(); push before it")
    columns = [field.attname for field in meta.concrete_fields]
    loaded = {name: obj.__dict__[name] for name in columns if name in obj.__dict__}
    computed = {name: _UNREAD for name, value in loaded.items() if hasattr(value, "resolve_expression")}
    loaded = {name: value for name, value in loaded.items() if name not in computed}
    related = {field.name: _RELATED for field in meta.get_fields() if field.is_relation}
    deferred = dict.fromkeys((name for name in columns if name not in obj.__dict__), _DEFERRED)
    return Snapshot(obj, loaded, columns=loaded, missing={**related, **deferred, **computed}, optional=list(related))


def _plain(value: object, path: str, above: tuple[int, ...]) -> object:
    """`value` with the models inside it as dicts. `payload` checks the rest."""
    if isinstance(value, str | int | float | None):
        return value
    if id(value) in above:
        raise BadData(f"{path} contains itself")
    if len(above) > _DEPTH_MAX:
        raise BadData(f"{path} is nested deeper than {_DEPTH_MAX} levels")
    inside = (*above, id(value))
    if isinstance(value, Mapping):
        return {key: _plain(item, f"{path}.{key}", inside) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{path}[{index}]", inside) for index, item in enumerate(value)]
    if type(value).__module__ == "django.db.models.fields.files":
        # A FieldFile: the column contains its name.
        return getattr(value, "name", None)
    model = _attributes(value, deleted=True)
    if model is None:
        return value
    if model.columns is not None:
        raise BadData(f"{path} is a {model.name}, a separate row; push it by itself, or return it from to_dict()")
    return model.select_fields(getattr(type(value), "__push_fields__", None), (), path=path, above=above)
