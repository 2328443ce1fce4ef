from __future__ import annotations

import pytest

from tidings.errors import BadRequest, Forbidden, UnknownCategory
from tidings_notifications.core.notification import Category
from tidings_notifications.core.preferences import Preference, check_preference, preferences_of

CATEGORIES = {"order": Category("Orders"), "alert": Category(required=True)}


def test_choice_is_checked() -> None:
    assert check_preference(CATEGORIES, "order", "in_app", enabled=False) == Preference(
        "order", "in_app", enabled=False
    )
    assert check_preference(CATEGORIES, "alert", "in_app", enabled=True).enabled
    with pytest.raises(Forbidden, match="alert"):
        check_preference(CATEGORIES, "alert", "in_app", enabled=False)


@pytest.mark.parametrize(
    ("category", "method", "enabled"),
    [("x", "in_app", True), (3, "in_app", True), ("order", "mail", True), ("order", [], True), ("order", "in_app", 1)],
)
def test_other_choices_are_refused(category: object, method: object, enabled: object) -> None:
    with pytest.raises((BadRequest, UnknownCategory)):
        check_preference(CATEGORIES, category, method, enabled)


def test_unknown_category_names_its_table() -> None:
    with pytest.raises(UnknownCategory, match=r"\[notifications\.categories\.news\] .*\(there are: alert, order\)"):
        check_preference(CATEGORIES, "news", "in_app", enabled=False)
    with pytest.raises(BadRequest, match="category is 'No News'"):
        check_preference(CATEGORIES, "No News", "in_app", enabled=False)


def test_preferences_name_every_category() -> None:
    assert preferences_of(CATEGORIES, {("order", "in_app"), ("alert", "in_app"), ("gone", "in_app")}) == [
        {"category": "alert", "label": "alert", "required": True, "methods": {"in_app": True}},
        {"category": "order", "label": "Orders", "required": False, "methods": {"in_app": False}},
    ]
