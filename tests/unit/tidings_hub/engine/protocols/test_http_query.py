"""Parsing of query strings."""

from __future__ import annotations

import pytest

from tidings_hub.engine.protocols.http_query import parse_query
from tidings_hub.engine.protocols.http_request import parse_head


def parse(query: str) -> dict[str, str] | None:
    return parse_query(parse_head(f"GET /?{query} HTTP/1.1\r\nHost: h\r\n\r\n".encode()))


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("", {}),
        ("EIO=4&transport=polling", {"EIO": "4", "transport": "polling"}),
        ("a=b%20c+d", {"a": "b c d"}),
        ("a=1&a=2", {"a": "1"}),
        ("channels=a:1&since=x&channels=b%3A2,c:3", {"channels": "a:1,b:2,c:3", "since": "x"}),
        ("presence=a:1&presence=b:2", {"presence": "a:1,b:2"}),
        ("&".join(f"f{number}=" for number in range(50)), {f"f{number}": "" for number in range(50)}),
    ],
)
def test_query_is_parsed_into_fields(query: str, fields: dict[str, str]) -> None:
    assert parse(query) == fields


@pytest.mark.parametrize("query", ["sid=a&sid=b", "EIO=4&EIO=4", "&".join(["a=1"] * 51)])
def test_repeated_engineio_field_or_too_many_fields_is_malformed(query: str) -> None:
    assert parse(query) is None
