from __future__ import annotations

from typing import Any

import pytest

from support.models import Order
from tidings.builder import PublicationBuilder
from tidings.errors import BadRequest
from tidings.models import SHARED, Registry, Rule, register
from tidings.models.rules import named_attributes


class TestRegistry:
    def test_each_part_comes_from_the_nearest_rule(self) -> None:
        class Special(Order):
            pass

        shared = Registry()
        shared.register(Order, channels=["shared:{id}"], fields=["id"], version="id")
        registry = Registry(shared)
        registry.register(Special, channels=["special:{id}"])
        assert registry.rule(Special) == Rule(("special:{id}",), ("id",), None, "id")
        assert registry.rule(Order) == Rule(("shared:{id}",), ("id",), None, "id")
        assert Registry().rule(Special).channels == ["orders:{id}", "user:{customer}"]

    def test_shared_registry_applies_to_all_emitters(self) -> None:
        class Everywhere:
            id = 1

            def to_dict(self) -> dict[str, Any]:
                return {"id": self.id}

        register(Everywhere, channels=["everywhere:{id}"])
        assert [item.channel for item in PublicationBuilder(registry=Registry(SHARED)).build_model(Everywhere())] == [
            "everywhere:1"
        ]

    def test_takes_classes_only(self) -> None:
        with pytest.raises(BadRequest, match="not a class"):
            register(Order(1), channels=["a:1"])  # type: ignore[arg-type]

    @pytest.mark.parametrize("channels", [5, b"a:1", True])
    def test_channels_of_a_wrong_type_are_refused(self, channels: Any) -> None:
        class Wrong(Order):
            __channels__ = channels

        with pytest.raises(BadRequest, match="channels must be"):
            Registry().register(Order, channels=channels)
        with pytest.raises(BadRequest, match="channels must be"):
            PublicationBuilder(registry=Registry()).build_model(Wrong(1))

    @pytest.mark.parametrize("version", [5, ["id"], True])
    def test_version_of_a_wrong_type_is_refused(self, version: Any) -> None:
        with pytest.raises(BadRequest, match="version must be"):
            Registry().register(Order, channels="a:1", version=version)


class TestNamedAttributes:
    def test_fields_templates_and_version(self) -> None:
        rule = Rule(channels=["orders:{id}", "user:{owner}:{id}", "a:1"], fields=("name",), version="turn")
        assert named_attributes(rule) == {"id", "owner", "name", "turn"}

    def test_functions_and_nonsense_name_nothing(self) -> None:
        nonsense: Any = ["orders:{", 5]
        assert named_attributes(Rule(channels=str, version=int)) == set()
        assert named_attributes(Rule(channels=nonsense)) == set()


def test_member_that_only_objects_have_can_be_named() -> None:
    """As with a hybrid property of SQLAlchemy, which is computed for the class as well."""

    class OfObjects:
        def __get__(self, obj: object, owner: type) -> str:
            if obj is None:
                raise TypeError("not for the class")
            return "of the object"

    class WithMember(Order):
        member = OfObjects()

    builder = PublicationBuilder(registry=Registry())
    [item] = builder.build_model(WithMember(1), channel="a:1", fields=["member"])
    assert b'"member":"of the object"' in item.body
    with pytest.raises(BadRequest, match="has no membre"):
        builder.build_model(WithMember(1), channel="a:1", fields=["membre"])


def test_registration_counts_from_then_on_also_for_a_class_whose_rule_was_used() -> None:
    class Parent: ...

    class Child(Parent): ...

    shared = Registry()
    own = Registry(shared)
    assert own.rule(Child).channels is None
    shared.register(Parent, channels="a:1")
    assert own.rule(Child).channels == ("a:1",)
    own.register(Child, channels="a:2")
    assert (own.rule(Child).channels, own.rule(Parent).channels) == (("a:2",), ("a:1",))
    shared.register(Parent, channels="a:3", exclude=["secret"])
    assert (own.rule(Child).channels, own.rule(Child).exclude) == (("a:2",), ("secret",))
