"""The version of a pushed object and its kind."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from support.models import NOW, Line, Order, ToDict, version_of, versioned
from tidings.builder import PublicationBuilder
from tidings.errors import BadData
from tidings.models import Rule
from tidings.models.versions import EmitterClock

VECTORS = Path(__file__).parents[3] / "vectors"
AT = datetime(2026, 11, 22, 12, 0, 0, 5, tzinfo=UTC)
AT_US = 1_795_348_800_000_005
NOW_NS = 1_790_000_000_000_000_000


class Document(ToDict):
    version = 5
    updated_at = AT


class TestVersion:
    def test_option_comes_first_and_each_source_has_its_kind(self) -> None:
        assert versioned(Document(), Rule(version="id"), version=9) == (9, "given")
        assert versioned(Document(), Rule(version="id")) == (7, "field:id")
        assert versioned(Document(), Rule(version=lambda o: o.id * 2)) == (14, "given")
        assert versioned(Document()) == (5, "field:version")
        assert versioned(ToDict()) == NOW

    def test_updated_at_is_a_version_only_by_choice(self) -> None:
        @dataclass
        class Page:
            updated_at: datetime

        assert versioned(Page(AT)) == NOW
        assert versioned(Page(AT), Rule(version="updated_at")) == (AT_US, "field:updated_at")

    def test_version_vectors_shared_with_javascript(self) -> None:
        for case in json.loads((VECTORS / "model_version.json").read_text())["good"]:
            obj = ToDict()
            for name, value in case["model"].items():
                setattr(obj, name, datetime.fromisoformat(value) if name == "updated_at" else value)
            assert version_of(obj, Rule(version=case["field"])) == case["version"]

    def test_datetimes_compare_with_each_other(self) -> None:
        east = AT.astimezone(timezone(timedelta(hours=5)))
        assert version_of(ToDict(), version=east) == AT_US
        assert version_of(ToDict(), version=AT.replace(tzinfo=None)) == AT_US

    def test_text_attribute_named_version_is_ignored(self) -> None:
        obj = ToDict()
        obj.version = "1.10"  # type: ignore[attr-defined]
        assert versioned(obj) == NOW
        assert versioned(obj, Rule(version="version")) == ("1.10", "field:version")

    @pytest.mark.parametrize("version", [True, float("nan"), float("inf"), b"\x01", [1], Decimal(1), object()])
    def test_incomparable_version_is_rejected(self, version: Any) -> None:
        with pytest.raises(BadData, match="a version is a number, a string or a datetime"):
            version_of(ToDict(), version=version)

    def test_registered_version_attribute_that_is_none_is_rejected(self) -> None:
        with pytest.raises(BadData, match=r"Order\.customer is None"):
            version_of(Order(1, customer=None), Rule(version="customer"))  # type: ignore[arg-type]


class TestClock:
    def test_version_grows_if_the_clock_is_set_back_a_little(self) -> None:
        moments = iter([NOW_NS + 2_000_000, NOW_NS + 1_000_000, NOW_NS + 3_000_000])
        clock = EmitterClock(lambda: next(moments))
        first, second, third = (clock.version() for _ in range(3))
        assert first == second
        assert third.value == NOW_NS // 1000 + 3000

    def test_clocks_of_one_machine_have_one_kind_and_others_have_others(self) -> None:
        now = EmitterClock().version()
        assert EmitterClock().version().kind == now.kind
        assert EmitterClock(lambda: NOW_NS).version().kind != now.kind

    def test_version_after_the_clock_was_set_back_has_another_kind(self) -> None:
        moments = iter([NOW_NS, NOW_NS - 60_000_000_000])
        clock = EmitterClock(lambda: next(moments))
        first, second = clock.version(), clock.version()
        assert second.value == NOW_NS // 1000 - 60_000_000
        assert first.kind != second.kind

    def test_builder_sends_the_version_and_its_kind(self) -> None:
        clock: Callable[[], int] = lambda: NOW_NS  # noqa: E731
        body = PublicationBuilder(clock_ns=clock).build_model(Line("x"), channel="a:1")[0].body
        data = json.loads(b"[" + body.split(b'"updated_model",', 1)[1] + b"]")[0]
        assert (data["version"], data["version_kind"][:6]) == (NOW_NS // 1000, "clock:")

    def test_version_of_the_caller_is_not_an_option(self) -> None:
        with pytest.raises(TypeError, match="fallback"):
            PublicationBuilder().build_model(Line("x"), channel="a:1", fallback=NOW)  # type: ignore[call-arg]
