"""What a user may switch off."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from tidings.errors import BadRequest, Forbidden, UnknownCategory
from tidings.wire.notification_fields import check_category
from tidings_notifications.core.notification import Category


def unknown_category(name: str, categories: Mapping[str, Category]) -> UnknownCategory:
    """The error for a category that has no rules."""
    known = ", ".join(sorted(categories)) or "none"
    return UnknownCategory(
        f"unknown category {name!r}; add [notifications.categories.{name}] to tidings.toml (there are: {known})"
    )


@dataclass(frozen=True, slots=True)
class Preference:
    """A user's choice for one category and one method."""

    category: str
    method: str
    enabled: bool


def check_preference(
    categories: Mapping[str, Category], category: object, method: object, enabled: object
) -> Preference:
    """A choice that a user may make.

    Raises:
        UnknownCategory: there is no such category. BadRequest: its name or the method is malformed or unknown, or
            `enabled` is no boolean.
        Forbidden: the category is required.
    """
    name = check_category(category)
    if name not in categories:
        raise unknown_category(name, categories)
    methods = categories[name].methods
    if not isinstance(method, str) or method not in methods:
        raise BadRequest(f"unknown method {method!a:.60}; the category {name} has {', '.join(methods)}")
    if not isinstance(enabled, bool):
        raise BadRequest("enabled must be true or false")
    if not enabled and categories[name].required:
        raise Forbidden(f"the category {name} is required: it cannot be switched off")
    return Preference(name, method, enabled)


def preferences_of(
    categories: Mapping[str, Category], switched_off: Collection[tuple[str, str]]
) -> list[dict[str, object]]:
    """All categories with a user's choices for each of their methods, as clients receive them.

    `switched_off`: pairs of category and method.
    """
    return [
        {
            "category": name,
            "label": category.label or name,
            "required": category.required,
            "methods": {method: category.required or (name, method) not in switched_off for method in category.methods},
        }
        for name, category in sorted(categories.items())
    ]
