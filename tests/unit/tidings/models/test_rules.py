from __future__ import annotations

from typing import Any

import pytest

from support.models import Order
from tidings.builder import PublicationBuilder
from tidings.errors import BadRequest
from tidings.models import SHARED, Registry, Rule, register


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
