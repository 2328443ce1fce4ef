"""push_model with dataclasses and objects with `to_dict`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import pytest

from support.models import Line, Order, ToDict, described, model_of
from tidings.builder import PublicationBuilder
from tidings.errors import BadChannel, BadData, BadRequest
from tidings.models import Rule


class TestData:
    def test_data_has_five_keys(self) -> None:
        data, channels = described(Order(42), op="created", version=3)
        assert data == {
            "class": "Order",
            "model": {"id": 42, "customer": "ann", "lines": []},
            "op": "created",
            "version": 3,
            "version_kind": "given",
        }
        assert channels == ["orders:42", "user:ann"]

    def test_the_default_op_is_updated(self) -> None:
        assert described(Order(42))[0]["op"] == "updated"

    @pytest.mark.parametrize("op", ["", "delete", None, "UPDATED", 3])
    def test_unknown_op_is_rejected(self, op: Any) -> None:
        with pytest.raises(BadRequest, match="one of created, updated, deleted"):
            described(Order(42), op=op)

    @pytest.mark.parametrize("obj", [{"id": 1}, [1], "text", 42, None, object(), Order, ToDict])
    def test_object_that_is_not_a_model_is_rejected(self, obj: object) -> None:
        with pytest.raises(BadData, match="is not a model"):
            described(obj)


class TestFields:
    def test_only_named_fields_are_sent(self) -> None:
        assert model_of(Order(42), fields=["customer", "id"]) == {"customer": "ann", "id": 42}

    def test_excluded_fields_are_not_sent(self) -> None:
        assert model_of(Order(42), exclude={"lines"}) == {"id": 42, "customer": "ann"}

    def test_private_field_is_sent_only_if_named(self) -> None:
        assert "_private" not in model_of(Order(42))
        assert model_of(Order(42), fields=["_private"]) == {"_private": "p"}

    def test_nearest_fields_win_and_exclusions_add_up(self) -> None:
        rule = Rule(channels="a:1", fields=("id", "customer", "lines"), exclude=("lines",))
        assert described(Order(42), rule)[0]["model"] == {"id": 42, "customer": "ann"}
        assert described(Order(42), rule, exclude=["id"])[0]["model"] == {"customer": "ann"}
        assert described(Order(42), rule, fields=["id", "lines"])[0]["model"] == {"id": 42}

    def test_class_attribute_names_the_fields(self) -> None:
        assert model_of(Line("x")) == {"sku": "x"}
        assert model_of(Order(1, lines=[Line("x")]))["lines"] == [{"sku": "x"}]

    @pytest.mark.parametrize("option", ["fields", "exclude"])
    def test_a_misspelt_name_is_an_error(self, option: str) -> None:
        with pytest.raises(BadRequest, match="Order has no custmer; it has _private, customer, id, lines"):
            described(Order(42), None, **{option: ["custmer"]})

    @pytest.mark.parametrize("option", ["fields", "exclude"])
    @pytest.mark.parametrize("names", ["id", b"id", 3, [1], [None]])
    def test_names_must_be_a_list(self, option: str, names: Any) -> None:
        with pytest.raises(BadRequest, match=f"{option} must be a list"):
            described(Order(42), **{option: names})

    def test_a_property_can_be_named(self) -> None:
        @dataclass
        class Article:
            net: int

            @property
            def gross(self) -> int:
                return self.net + 1

        assert model_of(Article(1)) == {"net": 1}
        assert model_of(Article(1), fields=["gross"]) == {"gross": 2}

    def test_nested_dataclasses_and_cycles(self) -> None:
        @dataclass
        class Node:
            children: list[Any]

        assert model_of(Node([Node([]), {"x": Node([])}])) == {"children": [{"children": []}, {"x": {"children": []}}]}
        loop = Node([])
        loop.children.append(Node([loop]))
        with pytest.raises(BadData, match=r"data\.model\.children\[0\]\.children\[0\] contains itself"):
            model_of(loop)
        deep = Node([])
        for _ in range(100):
            deep = Node([deep])
        with pytest.raises(BadData, match="deeper than 64"):
            model_of(deep)

    def test_error_for_unrepresentable_field_has_its_path(self) -> None:
        with pytest.raises(BadData, match=r"data\.model\.customer"):
            described(Order(42, customer=b"x"), Rule(channels="a:1"))  # type: ignore[arg-type]


class TestToDict:
    def test_to_dict_takes_precedence(self) -> None:
        assert model_of(ToDict(a=1, _b=2)) == {"a": 1, "_b": 2}

    def test_fields_and_exclude_apply_to_to_dict(self) -> None:
        assert model_of(ToDict(a=1, b=2), fields=["b"]) == {"b": 2}
        assert model_of(ToDict(a=1, b=2), exclude=["b"]) == {"a": 1}

    @pytest.mark.parametrize("value", [None, [("a", 1)], "text", {1: 2}])
    def test_result_that_is_not_a_dict_is_an_error(self, value: Any) -> None:
        obj = ToDict()
        obj.values = value
        with pytest.raises(BadData, match=r"ToDict\.to_dict\(\) returned no dict"):
            model_of(obj)

    def test_exceptions_of_to_dict_are_raised_unchanged(self) -> None:
        class Broken:
            def to_dict(self) -> dict[str, Any]:
                raise LookupError("mine")

        with pytest.raises(LookupError, match="mine"):
            model_of(Broken())

    def test_templates_read_attributes_and_then_keys(self) -> None:
        assert described(ToDict(a="x"), Rule(channels=["n:{id}", "n:{a}"]))[1] == ["n:7", "n:x"]


class TestChannels:
    def test_named_channels_replace_those_of_the_class(self) -> None:
        builder = PublicationBuilder()
        assert [item.channel for item in builder.build_model(Order(1), user="9")] == ["user:9"]
        assert [item.channel for item in builder.build_model(Order(1))] == ["orders:1", "user:ann"]

    def test_channels_from_a_function(self) -> None:
        assert described(Order(1), Rule(channels=lambda o: f"o:{o.id}"))[1] == ["o:1"]
        assert described(Order(1), Rule(channels=lambda o: [f"o:{o.id}", "o:1", "o:2"]))[1] == ["o:1", "o:2"]

    def test_channels_from_a_method_of_the_class(self) -> None:
        @dataclass
        class Reminder:
            id: int

            def __channels__(self) -> list[str]:
                return [f"reminders:{self.id}"]

        assert described(Reminder(3))[1] == ["reminders:3"]

    @pytest.mark.parametrize("channels", [None, [], "", "orders", [""], [None], 3])
    def test_function_that_returns_no_channels_is_an_error(self, channels: Any) -> None:
        with pytest.raises(BadChannel):
            described(Order(1), Rule(channels=lambda _: channels))

    def test_object_without_channels_is_an_error(self) -> None:
        with pytest.raises(BadChannel, match=r"no channel for a Line: .*Line\.__channels__ = \['name:{id}'\]"):
            described(Line("x"))

    @pytest.mark.parametrize("value", [None, "", "a b", "\n", "x" * 200])
    def test_template_with_an_empty_field_is_an_error(self, value: Any) -> None:
        with pytest.raises(BadChannel):
            described(Order(1, customer=value))

    @pytest.mark.parametrize(
        "template", ["o:{id.real}", "o:{0}", "o:{}", "o:{id!r}", "o:{id:>9}", "o:{id[0]}", "o:{", 3]
    )
    def test_malformed_template_is_an_error(self, template: Any) -> None:
        with pytest.raises(BadChannel, match=r"not a template|list of templates"):
            described(Order(1), Rule(channels=[template]))

    def test_template_with_an_unknown_attribute_is_an_error(self) -> None:
        with pytest.raises(BadData, match="Order has no attribute 'nothing'"):
            described(Order(1), Rule(channels="o:{nothing}"))

    def test_enum_is_replaced_by_its_value(self) -> None:
        class Region(Enum):
            NORTH = "north"

        assert described(Order(1, customer=Region.NORTH))[1][1] == "user:north"  # type: ignore[arg-type]
