from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tidings.codes import CODES
from tidings.errors import Forbidden, TidingsError
from tidings_hub.extensions.hooks.responses import BadHookResponse, read_connect, read_publish, read_subscribe

READERS: list[Callable[[bytes], Any]] = [read_connect, lambda body: read_subscribe(body, ["a:1"]), read_publish]


@pytest.mark.parametrize("read_response", READERS)
def test_an_empty_response_allows(read_response: Callable[[bytes], Any]) -> None:
    assert not read_response(b"")
    assert not read_response(b"{}")


@pytest.mark.parametrize("read_response", READERS)
@pytest.mark.parametrize(
    "body",
    [
        b"{", b"[]", b"null", b"true", b'"ok"', b'{"eror":{}}', b'{"allowed":false}', b'{"error":null}',
        b'{"error":true}',
        b'{"error":{"message":"x"}}', b'{"error":{"code":"nonsense"}}', b'{"error":{"code":1}}',
        b'{"error":{"code":"forbidden","message":1}}', b'{"error":{"code":"forbidden","more":1}}',
        b'{"error":{"code":"forbidden","message":"' + b"x" * 501 + b'"}}', b'{"channels":7}', b'{"channels":[1]}',
        b'{"channels":{"a:1":true}}', b'{"channels":{"b:1":{}}}', b'{"channels":{"a:1":{"eror":{}}}}',
        b"[" * 100_000, b"\xff",
        b'{"error":{"code":"forbidden"},"error":{}}', b'{"channels":{"a:1":{"error":{"code":"forbidden"}},"a:1":{}}}',
    ],
)  # fmt: skip
def test_malformed_response_is_rejected(read_response: Callable[[bytes], Any], body: bytes) -> None:
    with pytest.raises(BadHookResponse):
        read_response(body)


@pytest.mark.parametrize("read_response", READERS)
def test_a_refusal_becomes_a_tidings_error(read_response: Callable[[bytes], Any]) -> None:
    with pytest.raises(Forbidden, match="closed"):
        read_response(b'{"error":{"code":"forbidden","message":"closed"}}')
    with pytest.raises(Forbidden) as raised:
        read_response(b'{"error":{"code":"forbidden"}}')
    assert str(raised.value) == CODES["forbidden"].advice


def test_response_grants_or_rejects_channels() -> None:
    assert read_connect(b'{"channels":["a:1","a:2"]}') == ["a:1", "a:2"]
    refused = read_subscribe(b'{"channels":{"a:1":{"error":{"code":"unavailable"}},"a:2":{}}}', ["a:1", "a:2", "a:3"])
    assert {name: error.code.name for name, error in refused.items()} == {"a:1": "unavailable"}
    assert all(isinstance(error, TidingsError) for error in refused.values())
