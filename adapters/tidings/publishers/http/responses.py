"""Requests of publications and notifications for the HTTP API, and its responses as receipts and errors. No I/O.

Request: `POST /api/publish` with a JSON array of `{"channel", "id", "event", "data", "ack"?}`.
Response: 200 `{"results": [{"id", "cursor", "duplicate"} | {"error": {"code", "message"}}, …]}`, or,
if the whole request was rejected, another status with `{"error": {"code", "message"}}`.
`POST /api/notifications` is the same with `notification_request.read_request` and `{"id", "state", "duplicate"}`.
Source: PROTOCOL.md section 8.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from tidings.http_client.response import AmbiguousResponse, BadHttpResponse
from tidings.publishers.base import NotifyResult, OutgoingNotification, OutgoingPublication, PublishResult
from tidings.publishers.retry_state import Proof
from tidings.receipts import NotificationReceipt, Receipt
from tidings.wire.publication import ACK

_ACK = ACK.encode()
_NOT_A_HUB = "the response to a publish is not a hub's; check the URL"
_OK = 200
_SUCCESS = (200, 201, 202)
_ABSENT = 404
# A hub's codes for a path that its API does not have.
_UNKNOWN_PATH = ("not_found", "not_allowed")
_NO_ROUTE = (404, 405)
_NO_NOTIFICATIONS = "this hub takes no notifications; set [notifications] in its tidings.toml, or update the hub"
_REDIRECTS = range(300, 400)
# The meaning of a status without an error code: a proxy in front of the hub sent it.
_BY_STATUS: dict[int, tuple[type[TidingsError], str]] = {
    401: (Unauthorized, "the hub rejects the API key; set api_key (TIDINGS_API_KEY)"),
    403: (Forbidden, "a proxy in front of the hub forbids publishing; allow /api/publish there"),
    404: (BadConfig, "there is no tidings hub at this URL; check its host and path"),
    405: (BadConfig, "there is no tidings hub at this URL; check its host and path"),
    413: (TooLarge, "the request is larger than a proxy in front of the hub allows; raise its body limit"),
    429: (Unavailable, "too many requests; publish in batches, or retry later"),
    502: (Unavailable, "the proxy cannot reach the hub; is the hub running?"),
    503: (Unavailable, "the hub is unavailable; retry later"),
    504: (TimedOut, "the hub did not respond to the proxy in time; retry with the same id"),
}


def encode_item(item: OutgoingPublication) -> bytes:
    """One publication as a JSON object of the request. Event and data are copied without decoding."""
    _, _, options, event_bytes, fragment = item.body.split(b" ", 4)
    size = int(event_bytes)
    # Channels and ids are valid, so they need no JSON escapes.
    return b'{"channel":"%b","id":"%b","event":%b,"data":%b%b}' % (
        item.channel.encode(),
        item.id.encode(),
        fragment[:size],
        fragment[size + 1 :],
        b',"ack":true' if _ACK in options else b"",
    )


def encode_notification(item: OutgoingNotification) -> bytes:
    """One notification as a JSON object of the request."""
    return item.notification.encode_request()


def split_requests(
    parts: Iterable[tuple[str, bytes]], *, items_max: int, request_max_bytes: int
) -> Iterator[tuple[list[str], bytes]]:
    """The requests that send items in order: the ids of its items, and its body. `parts`: each id and item as JSON.

    A request has at most `items_max` items and, unless it has only one, `request_max_bytes` bytes.
    """
    objects: list[bytes] = []
    ids: list[str] = []
    size = 1
    for id, part in parts:
        if objects and (len(objects) == items_max or size + len(part) + 1 > request_max_bytes):
            yield ids, b"[%b]" % b",".join(objects)
            objects, ids, size = [], [], 1
        objects.append(part)
        ids.append(id)
        size += len(part) + 1
    if objects:
        yield ids, b"[%b]" % b",".join(objects)


def read_results(status: int, body: bytes, ids: Sequence[str]) -> list[PublishResult]:
    """The result of each item of one request, whose items have these ids.

    Raises:
        BadHttpResponse: a receipt has another id, so this is the response to another request.
    """
    return _read(status, body, ids, _result)


def read_notify_results(status: int, body: bytes, ids: Sequence[str]) -> list[NotifyResult]:
    """As `read_results`, for a request of notifications."""
    if status in _NO_ROUTE:
        match _parse(body):
            case {"error": {"code": str(code)}} if code in _UNKNOWN_PATH:
                return [BadConfig(f"HTTP {status}: {_NO_NOTIFICATIONS}")] * len(ids)
    return _read(status, body, ids, _notify_result)


def _read(
    status: int, body: bytes, ids: Sequence[str], read: Callable[[object], Proof | TidingsError]
) -> list[Proof | TidingsError]:
    response = _parse(body)
    if status != _OK:
        return [_error(status, response)] * len(ids)
    values = response.get("results")
    if not isinstance(values, list) or len(values) != len(ids):
        return [Internal(_NOT_A_HUB)] * len(ids)
    results = [read(value) for value in values]
    if any(not isinstance(result, TidingsError) and result.id != id for result, id in zip(results, ids, strict=True)):
        raise BadHttpResponse("the response to another request")
    return results


def check_proof(results: Sequence[Proof | TidingsError]) -> None:
    """Check the results of a response on a connection that was used before.

    Raises:
        AmbiguousResponse: nothing in it has the id of an item, so it may be a late response to an earlier request.
    """
    if all(isinstance(result, TidingsError) for result in results):
        raise AmbiguousResponse("errors without an id, on a connection that was used before")


def read_error(status: int, body: bytes) -> TidingsError:
    """The error in a response that is not a success."""
    return _error(status, _parse(body))


def read_object(status: int, body: bytes) -> dict[str, Any]:
    """The JSON object of a successful response.

    Raises:
        TidingsError: the response is an error; this is its meaning.
    """
    if status not in _SUCCESS:
        raise read_error(status, body)
    return _parse(body)


def read_named(status: int, body: bytes) -> dict[str, Any]:
    """As `read_object`, for the path of a named object: a 404 of the hub means that the object does not exist.

    Raises:
        NotFound: there is no such object.
    """
    if status == _ABSENT:
        match _parse(body):
            case {"error": {"code": "not_found", "message": str(message)}}:
                raise NotFound(message)
    return {**read_object(status, body), "settled": status == _OK}


def _parse(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _result(value: object) -> PublishResult:
    match value:
        case {"error": {"code": str(code), "message": str(message)}}:
            return from_wire(code, message)
        case {"id": str(id), "cursor": str(cursor), "duplicate": bool(duplicate)}:
            return Receipt(id, cursor, duplicate)
    return Internal(_NOT_A_HUB)


def _notify_result(value: object) -> NotifyResult:
    match value:
        case {"error": {"code": str(code), "message": str(message)}}:
            return from_wire(code, message)
        case {"id": str(id), "state": str(state), "duplicate": bool(duplicate)}:
            return NotificationReceipt(id, state, duplicate)
    return Internal(_NOT_A_HUB)


def _error(status: int, response: dict[str, Any]) -> TidingsError:
    match response:
        case {"error": {"code": str(code), "message": str(message)}} if code not in _UNKNOWN_PATH:
            return from_wire(code, message)
    if status in _REDIRECTS:
        # A redirect is never followed: the API key would be sent to its target.
        return BadConfig(f"the hub's URL redirects (HTTP {status}); use the target's URL")
    kind, message = _BY_STATUS.get(
        status, (BadRequest if status < 500 else Unavailable, "not a response of a tidings hub")
    )
    return kind(f"HTTP {status}: {message}")
