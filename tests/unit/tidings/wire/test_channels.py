from __future__ import annotations

from typing import Any

import pytest
from django.utils.functional import SimpleLazyObject
from werkzeug.local import LocalProxy

from support.vectors import examples
from tidings.errors import BadChannel, BadEvent, BadId
from tidings.wire.channels import (
    CHANNEL_MAX,
    EVENT_MAX,
    check_backend_event,
    check_channel,
    check_channels,
    check_event,
    check_id,
    matches,
    namespace_of,
    user_channel,
)

VECTORS = examples("channels")


@pytest.mark.parametrize("name", VECTORS["channels"]["good"])
def test_a_channel(name: str) -> None:
    assert check_channel(name) == name
    assert f"{namespace_of(name)}:" == name[: len(namespace_of(name)) + 1]


def test_proxy_of_text_is_an_error_with_its_kind() -> None:
    """`isinstance` takes such a proxy for text, and a regular expression raises TypeError."""
    for check, error in ((check_channel, BadChannel), (check_event, BadEvent), (check_id, BadId)):
        for proxy in (SimpleLazyObject(lambda: "orders:1"), LocalProxy(lambda: "orders:1")):
            with pytest.raises(error, match=type(proxy).__name__):
                check(proxy)


@pytest.mark.parametrize("name", VECTORS["channels"]["bad"], ids=ascii)
def test_no_channel(name: object) -> None:
    with pytest.raises(BadChannel):
        check_channel(name)


def test_the_longest_channel() -> None:
    longest = "n" * 64 + ":" + "c" * (CHANNEL_MAX - 65)
    assert check_channel(longest) == longest
    for longer in (longest + "c", "n" * 65 + ":c"):
        with pytest.raises(BadChannel):
            check_channel(longer)


@pytest.mark.parametrize(
    "names", ["", [], (), {}, "orders:42", b"orders:42", {"orders:42": 1}, None, 7, [""], ["orders:42", ""]]
)
def test_an_empty_or_malformed_list_is_never_everyone(names: object) -> None:
    with pytest.raises(BadChannel):
        check_channels(names)


def test_channels_keep_their_order_without_repetitions() -> None:
    assert check_channels(["b:1", "a:1", "b:1"]) == ["b:1", "a:1"]


@pytest.mark.parametrize("user", ["", None, 7, "a b", "*", ["x"], "\n"])
def test_no_user(user: object) -> None:
    with pytest.raises(BadChannel):
        user_channel(user)


def test_the_channel_of_a_user() -> None:
    assert user_channel("42") == "user:42"


@pytest.mark.parametrize("name", VECTORS["events"]["good"])
def test_an_event(name: str) -> None:
    assert check_event(name) == name


@pytest.mark.parametrize("name", [*VECTORS["events"]["bad"], "e" * (EVENT_MAX + 1), "\ud800"], ids=ascii)
def test_no_event(name: object) -> None:
    with pytest.raises(BadEvent):
        check_event(name)


def test_only_backends_may_use_events_of_tidings() -> None:
    assert check_backend_event("tidings:job") == "tidings:job"
    assert check_backend_event("said") == "said"
    with pytest.raises(BadEvent):
        check_event("tidings:job")


@pytest.mark.parametrize("name", ["tidings:ready", "tidings:", "tidings:job2", "connect", ""])
def test_other_reserved_events_are_refused_for_backends_too(name: str) -> None:
    with pytest.raises(BadEvent):
        check_backend_event(name)


@pytest.mark.parametrize("value", VECTORS["ids"]["good"])
def test_an_id(value: str) -> None:
    assert check_id(value) == value


@pytest.mark.parametrize("value", VECTORS["ids"]["bad"], ids=ascii)
def test_no_id(value: object) -> None:
    with pytest.raises(BadId):
        check_id(value)


@pytest.mark.parametrize(
    "example", VECTORS["patterns"], ids=lambda example: f"{example['pattern']} {example['channel']}"
)
def test_a_pattern_covers(example: dict[str, Any]) -> None:
    assert matches(example["pattern"], example["channel"]) is example["covers"]


def test_error_shows_only_the_beginning_of_the_value() -> None:
    with pytest.raises(BadChannel) as caught:
        check_channel("\x1b[31m" + "x" * 10_000)
    assert len(str(caught.value)) < 400
    assert "\x1b" not in str(caught.value)
