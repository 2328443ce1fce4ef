from __future__ import annotations

import pytest

from tidings.errors import BadChannel, BadRequest
from tidings_notifications.api.requests import Fields, query_fields


def test_fields_are_read_by_their_kind() -> None:
    fields = Fields({"user": "7", "all": True, "before": "x"})
    assert (fields.user(), fields.boolean("all"), fields.optional_text("before")) == ("7", True, "x")
    assert (fields.boolean("archived"), fields.optional_text("group"), fields.take("ids")) == (False, None, None)
    fields.finish()
    query = query_fields({"limit": "20", "unread": "false"})
    assert (query.number("limit", 30), query.number("other", 30), query.boolean("unread")) == (20, 30, False)


@pytest.mark.parametrize("value", [1, "1", "yes", "True", [], {}])
def test_other_values_are_no_booleans(value: object) -> None:
    with pytest.raises(BadRequest, match="all"):
        Fields({"all": value}).boolean("all")


@pytest.mark.parametrize("value", ["", "-1", "1.0", "٣", "1" * 10, 7, None])
def test_other_values_are_no_numbers(value: object) -> None:
    if value is None:
        assert Fields({}).number("limit", 5) == 5
        return
    with pytest.raises(BadRequest, match="limit"):
        Fields({"limit": value}).number("limit", 5)


@pytest.mark.parametrize("user", [None, 7, "", "a b", "a/b", "x" * 136, ["7"]])
def test_other_values_are_no_users(user: object) -> None:
    with pytest.raises(BadChannel):
        Fields({"user": user}).user()


def test_text_and_unknown_fields_are_checked() -> None:
    with pytest.raises(BadRequest, match="group"):
        Fields({"group": 7}).optional_text("group")
    with pytest.raises(BadRequest, match="colour"):
        Fields({"colour": "red"}).finish()
