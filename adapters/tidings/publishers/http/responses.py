"""Publications as the HTTP API takes them, and its answers as receipts and errors (no I/O).

Request: `POST /api/publish` with a JSON array of `{"channel", "id", "event", "data", "ack"?}`.
Answer: 200 `{"results": [{"id", "cursor", "duplicate"} | {"error": {"code", "message"}}, …]}`, or,
if the whole request was refused, another status with `{"error": {"code", "message"}}`.
Source: PROTOCOL.md section 5.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from tidings.errors import (
    BadConfig,
    BadRequest,
    Forbidden,
    Internal,
    NotFound,
    TidingsError,
    TimedOut,
    TooLarge,
    Unauthorized,
    Unavailable,
    from_wire,
)
from tidings.publishers.base import OutgoingPublication, PublishResult
from tidings.receipts import Receipt
from tidings.wire.publication import ACK

_ACK = ACK.encode()
_OK = 200
_DONE = (200, 201, 202)
_ABSENT = 404
# A hub says so of an address that is not its API's.
_WRONG_PLACE = ("not_found", "not_allowed")
_REDIRECTS = range(300, 400)
# What a proxy in front of the hub says, without a code of ours.
_BY_STATUS: dict[int, tuple[type[TidingsError], str]] = {
    401: (Unauthorized, "the hub refuses the API key; set api_key (TIDINGS_API_KEY)"),
    403: (Forbidden, "something before the hub forbids publishing; ask whoever runs the proxy"),
    404: (BadConfig, "there is no tidings hub at this URL; check its host and path"),
    405: (BadConfig, "there is no tidings hub at this URL; check its host and path"),
    413: (TooLarge, "a proxy before the hub allows only smaller requests; raise its body limit"),
    429: (Unavailable, "too many requests; publish in batches, or later"),
    502: (Unavailable, "the proxy does not reach the hub; is it running?"),
    503: (Unavailable, "the hub is not available; try again later"),
    504: (TimedOut, "the hub did not answer the proxy in time; try again with the same id"),
}


def encode_item(item: OutgoingPublication) -> bytes:
    """One publication as an object of the request; its event and data go in as they are."""
    _, _, options, event_bytes, fragment = item.body.split(b" ", 4)
    size = int(event_bytes)
    # Channels and ids are of checked alphabets: no JSON escape can be needed.
    return b'{"channel":"%b","id":"%b","event":%b,"data":%b%b}' % (
        item.channel.encode(),
        item.id.encode(),
        fragment[:size],
        fragment[size + 1 :],
        b',"ack":true' if _ACK in options else b"",
    )


def split_requests(
    items: Sequence[OutgoingPublication], *, items_max: int, request_max_bytes: int
) -> Iterator[tuple[int, bytes]]:
    """The requests that publish `items` in order: how many items each has, and its body.

    A request has at most `items_max` items and, unless it has only one, `request_max_bytes` bytes.
    """
    parts: list[bytes] = []
    size = 1
    for item in items:
        part = encode_item(item)
        if parts and (len(parts) == items_max or size + len(part) + 1 > request_max_bytes):
            yield len(parts), b"[%b]" % b",".join(parts)
            parts, size = [], 1
        parts.append(part)
        size += len(part) + 1
    if parts:
        yield len(parts), b"[%b]" % b",".join(parts)


def read_results(status: int, body: bytes, count: int) -> list[PublishResult]:
    """What the hub says about each of the `count` items of one request."""
    said = _parsed(body)
    if status == _OK:
        results = said.get("results")
        if isinstance(results, list) and len(results) == count:
            return [_result(result) for result in results]
        return [Internal("the answer to a publish is not a hub's; check the URL")] * count
    return [_refusal(status, said)] * count


def read_error(status: int, body: bytes) -> TidingsError:
    """What an answer other than 200 means."""
    return _refusal(status, _parsed(body))


def read_object(status: int, body: bytes) -> dict[str, Any]:
    """The object of an answer that is a success.

    Raises:
        TidingsError: it is none; what it means.
    """
    if status not in _DONE:
        raise read_error(status, body)
    return _parsed(body)


def read_named(status: int, body: bytes) -> dict[str, Any]:
    """As `read_object`, at an address that names something: that there is nothing says nothing of the hub.

    Raises:
        NotFound: there is nothing under that name.
    """
    if status == _ABSENT:
        match _parsed(body):
            case {"error": {"code": "not_found", "message": str(message)}}:
                raise NotFound(message)
    return {**read_object(status, body), "settled": status == _OK}


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _result(said: object) -> PublishResult:
    match said:
        case {"error": {"code": str(code), "message": str(message)}}:
            return from_wire(code, message)
        case {"id": str(id), "cursor": str(cursor), "duplicate": bool(duplicate)}:
            return Receipt(id, cursor, duplicate)
    return Internal("the answer to a publish is not a hub's; check the URL")


def _refusal(status: int, said: dict[str, Any]) -> TidingsError:
    match said:
        case {"error": {"code": str(code), "message": str(message)}} if code not in _WRONG_PLACE:
            return from_wire(code, message)
    if status in _REDIRECTS:
        # Never followed: the API key would go to whatever the redirect names.
        return BadConfig(f"the hub's URL redirects (HTTP {status}); set the URL that it leads to")
    kind, message = _BY_STATUS.get(status, (BadRequest if status < 500 else Unavailable, "no tidings hub answers so"))
    return kind(f"HTTP {status}: {message}")
