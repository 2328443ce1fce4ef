"""Rules for the classes that `push_model` takes: their channels, fields and version.

Each part of a rule comes from the first of these that has it: the emitter's own registry, the registry of the process
(`register`), the class itself (`__channels__`, `__push_fields__`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tidings.errors import BadRequest

Version = int | float | str | datetime
# Any: the caller's own class; a registered function is only ever called with an instance of it.
Channels = str | Iterable[str] | Callable[[Any], str | Iterable[str]]


@dataclass(frozen=True, slots=True)
class Rule:
    """How objects of one class are pushed. None: this rule does not decide it."""

    channels: Channels | None = None
    fields: tuple[str, ...] | None = None
    exclude: tuple[str, ...] | None = None
    version: str | Callable[[Any], Version] | None = None

    def with_defaults(self, other: Rule) -> Rule:
        """This rule, with what `other` decides where this one has None."""
        return Rule(
            other.channels if self.channels is None else self.channels,
            other.fields if self.fields is None else self.fields,
            other.exclude if self.exclude is None else self.exclude,
            other.version if self.version is None else self.version,
        )


class Registry:
    """Rules by class, which subclasses inherit. The rules of `parent` come after all rules of this registry."""

    def __init__(self, parent: Registry | None = None) -> None:
        self._parent = parent
        self._rules: dict[type, Rule] = {}

    def register(
        self,
        cls: type,
        *,
        channels: Channels | None = None,
        fields: Iterable[str] | None = None,
        exclude: Iterable[str] | None = None,
        version: str | Callable[[Any], Version] | None = None,
    ) -> None:
        """Register how objects of `cls` and of its subclasses are pushed. Registering a class again replaces its rule.

        `channels`: templates such as "orders:{id}", or a function that takes the object and returns channels.
        `fields`, `exclude`: names of fields. `version`: the name of an attribute, or a function that takes the object.

        Raises:
            BadRequest: `cls` is not a class.
        """
        if not isinstance(cls, type):
            raise BadRequest(f"not a class: {type(cls).__name__}; register(Order, channels=…)")
        self._rules[cls] = Rule(
            channels if channels is None or callable(channels) else channel_templates(channels),
            None if fields is None else field_names(fields, "fields"),
            None if exclude is None else field_names(exclude, "exclude"),
            version,
        )

    def rule(self, cls: type) -> Rule:
        """The rule for one class: what is registered for it, then its own attributes."""
        push_fields = getattr(cls, "__push_fields__", None)
        class_rule = Rule(
            channels=getattr(cls, "__channels__", None),
            fields=None if push_fields is None else field_names(push_fields, "__push_fields__"),
        )
        return self._registered(cls).with_defaults(class_rule)

    def _registered(self, cls: type) -> Rule:
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
    """One template, or several, as a tuple."""
    return (templates,) if isinstance(templates, str) else tuple(templates)
