"""Numbers that applications pass are checked where they are passed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tidings.ack_wait import AckWait
from tidings.async_emitter import AsyncEmitter
from tidings.contrib.outbox import Relay
from tidings.contrib.sqlalchemy import autopush
from tidings.emitter import Emitter
from tidings.errors import BadConfig, BadRequest, CallerError
from tidings.publishers.memory.publisher import MemoryPublisher
from tidings.tokens.jwks import Jwks
from tidings.tokens.key_set import KeySet
from tidings.wire.control import revoke

INVALID: list[Any] = [
    *(10**400, 10**5000, -1, float("nan"), float("inf"), float("-inf")),
    *(True, False, "5", b"5", None, [5], 5j),
]


def relay(**setting: Any) -> None:
    Relay("sqlite:///never.db", MemoryPublisher("memory://"), **setting)


def revoked(**time: Any) -> None:
    revoke(user="ann", jti=None, **{"for_s": None, "until_s": None, "now_s": 1.0} | time)


SETTINGS: list[tuple[Callable[..., object], str, type[CallerError]]] = [
    *((kind, name, BadConfig) for kind in (Emitter, AsyncEmitter) for name in ("timeout_s", "batch_max")),
    (Emitter, "publication_max_bytes", BadConfig),
    *((relay, name, BadConfig) for name in ("batch", "interval_s", "keep_s", "attempts_max", "timeout_s")),
    (relay, "publication_max_bytes", BadConfig),
    *((KeySet, name, BadConfig) for name in ("leeway_s", "wait_s", "waiting_max")),
    *((lambda **setting: Jwks("i", file="f", **setting), name, BadConfig) for name in ("cache_s", "stale_max_s")),
    (lambda **setting: autopush(None, Emitter("memory://"), **setting), "changes_max", BadConfig),  # type: ignore[arg-type]
    (lambda timeout_s: AckWait("id", 1, timeout_s, now_s=0.0), "timeout_s", BadRequest),
    (lambda acks: AckWait("id", acks, 1.0, now_s=0.0), "acks", BadRequest),
    *((revoked, name, BadRequest) for name in ("for_s", "until_s")),
]


@pytest.mark.parametrize(("function", "name", "error"), SETTINGS)
def test_invalid_number_is_an_error_with_its_name(
    function: Callable[..., object], name: str, error: type[CallerError]
) -> None:
    for value in INVALID:
        if name in {"for_s", "until_s"} and value is None:
            # One of the two is not passed.
            continue
        with pytest.raises(error, match=name.removesuffix("_s").removesuffix("_max")):
            function(**{name: value})


@pytest.mark.parametrize("number", ["9" * 10, "9" * 5000, "-1", "1.5", "\u0663"])
@pytest.mark.parametrize(
    "url",
    [
        *("redis://h/{}", "redis://h:{}/0", "redis://h/0?db={}", "rediss://h/{}", "redis+sentinel://h/m/{}"),
        *("redis+sentinel://h:{}/m", "redis+cluster://h:{}", "redis+cluster://h/?buckets={}", "http://h:{}"),
        *("amqp://h:{}/", "kombu+redis://h:{}/0", "kombu+redis://h/{}", "socketio+redis://h/{}"),
    ],
)
def test_invalid_number_in_a_url_is_bad_config(url: str, number: str) -> None:
    with pytest.raises(BadConfig):
        Emitter(url.format(number), api_key="k" if url.startswith("http") else None).emit("e", channel="a:1")


def test_on_error_that_is_no_function() -> None:
    with pytest.raises(BadConfig, match="on_error is a function"):
        autopush(None, Emitter("memory://"), on_error="log")  # type: ignore[arg-type]
