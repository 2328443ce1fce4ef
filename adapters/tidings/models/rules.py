"""Rules for the classes that `push_model` takes: their channels, fields and version.

Each part of a rule comes from the first of these that has it: the emitter's own registry, the registry of the process
(`register`), the class itself (`__channels__`, `__push_fields__`, `__push_reread__`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from string import Formatter
from typing import Any
from weakref import WeakKeyDictionary

from tidings.errors import BadRequest

Version = int | float | str | datetime
# Any: the caller's own class; a registered function is only ever called with an instance of it.
Channels = str | Iterable[str] | Callable[[Any], str | Iterable[str] | None]


@dataclass(frozen=True, slots=True)
class Rule:
    """How objects of one class are pushed. None: this rule does not decide it."""

    channels: Channels | None = None
    fields: tuple[str, ...] | None = None
    exclude: tuple[str, ...] | None = None
    version: str | Callable[[Any], Version] | None = None
    reread: bool | None = None

    def with_defaults(self, other: Rule) -> Rule:
        """This rule, with what `other` decides where this one has None."""
        return Rule(
            other.channels if self.channels is None else self.channels,
            other.fields if self.fields is None else self.fields,
            other.exclude if self.exclude is None else self.exclude,
            other.version if self.version is None else self.version,
            other.reread if self.reread is None else self.reread,
        )


def named_attributes(rule: Rule) -> set[str]:
    """The attributes that a rule names: its fields, its version, and the names in its templates of channels."""
    names = set(rule.fields or ())
    if isinstance(rule.version, str):
        names.add(rule.version)
    if rule.channels is not None and not callable(rule.channels):
        for template in channel_templates(rule.channels):
            names |= template_names(template)
    return names


def template_names(template: str) -> set[str]:
    """The attributes that a template of channels names."""
    try:
        return {name for _, name, _, _ in Formatter().parse(template) if name}
    except (TypeError, ValueError):
        # `describe` raises BadChannel for it.
        return set()


# How often `register` was called in this process, for any registry.
_registrations = [0]


class Registry:
    """Rules by class, which subclasses inherit. The rules of `parent` come after all rules of this registry."""

    def __init__(self, parent: Registry | None = None) -> None:
        self._parent = parent
        self._rules: dict[type, Rule] = {}
        # What is registered for a class and its ancestors, since the last registration anywhere.
        self._combined: WeakKeyDictionary[type, Rule] = WeakKeyDictionary()
        self._combined_at = _registrations[0]

    def __reduce__(self) -> str | tuple[Callable[..., Registry], tuple[Registry | None, dict[type, Rule]]]:
        # For spawned processes (multiprocessing): weak references have no pickled form. A process has its own SHARED.
        return "SHARED" if self is SHARED else (_registry_of, (self._parent, self._rules))

    def register(
        self,
        cls: type,
        *,
        channels: Channels | None = None,
        fields: Iterable[str] | None = None,
        exclude: Iterable[str] | None = None,
        version: str | Callable[[Any], Version] | None = None,
        reread: bool | None = None,
    ) -> None:
        """Register how objects of `cls` and of its subclasses are pushed. Registering a class again replaces its rule.

        `channels`: templates such as "orders:{id}", or a function that takes the object and returns channels.
        `fields`, `exclude`: names of fields. `version`: the name of an attribute, or a function that takes the object.
        `reread=False`: `autopush` and `Outbox` do not read the row again, and push the values that the object has.

        Raises:
            BadRequest: `cls` is not a class, or an argument is not of its type.
        """
        if not isinstance(cls, type):
            raise BadRequest(f"not a class: {type(cls).__name__}; register(Order, channels=…)")
        if not (version is None or isinstance(version, str) or callable(version)):
            raise BadRequest("version must be the name of an attribute, or a function that takes the object")
        self._rules[cls] = Rule(
            channels if channels is None or callable(channels) else channel_templates(channels),
            None if fields is None else field_names(fields, "fields"),
            None if exclude is None else field_names(exclude, "exclude"),
            version,
            reread,
        )
        _registrations[0] += 1

    def rule(self, cls: type) -> Rule:
        """The rule for one class: what is registered for it, then its own attributes."""
        push_fields = getattr(cls, "__push_fields__", None)
        class_rule = Rule(
            channels=getattr(cls, "__channels__", None),
            fields=None if push_fields is None else field_names(push_fields, "__push_fields__"),
            reread=getattr(cls, "__push_reread__", None),
        )
        return self._registered(cls).with_defaults(class_rule)

    def _registered(self, cls: type) -> Rule:
        if self._combined_at != _registrations[0]:
            self._combined_at = _registrations[0]
            self._combined = WeakKeyDictionary()
        known = self._combined.get(cls)
        if known is None:
            known = self._combined[cls] = self._combine(cls)
        return known

    def _combine(self, cls: type) -> Rule:
        rule = Rule()
        for ancestor in cls.__mro__:
            if inherited := self._rules.get(ancestor):
                rule = rule.with_defaults(inherited)
        return rule if self._parent is None else rule.with_defaults(self._parent._registered(cls))  # noqa: SLF001


SHARED = Registry()
register = SHARED.register


def field_names(names: Iterable[str], parameter: str) -> tuple[str, ...]:
    """`names`, if they are a list of names of fields; `parameter` is what the error message calls them.

    Raises:
        BadRequest: they are not.
    """
    if isinstance(names, str | bytes) or not isinstance(names, Iterable):
        raise BadRequest(f"{parameter} must be a list of names of fields")
    fields = tuple(names)
    if not all(isinstance(name, str) for name in fields):
        raise BadRequest(f"{parameter} must be a list of names of fields")
    return fields


def channel_templates(templates: str | Iterable[str]) -> tuple[str, ...]:
    """One template, or several, as a tuple.

    Raises:
        BadRequest: neither.
    """
    channels: object = templates
    if isinstance(channels, bytes) or not isinstance(channels, Iterable):
        raise BadRequest("channels must be a template such as 'orders:{id}', a list of them, or a function")
    return (templates,) if isinstance(templates, str) else tuple(templates)


def _registry_of(parent: Registry | None, rules: dict[type, Rule]) -> Registry:
    registry = Registry(parent)
    registry._rules.update(rules)  # noqa: SLF001 - a copy of its own class
    return registry
