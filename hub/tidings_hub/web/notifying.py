"""`POST /api/notifications`: parses the request body, hands the notifications over, and builds the response."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import NoReturn

from tidings.errors import BadRequest, TidingsError, TooLarge
from tidings.receipts import NotificationReceipt
from tidings.wire.notification import Notification
from tidings.wire.notification_request import read_request
from tidings_hub.services.api import NodeApi
from tidings_hub.services.backend_notifications import NOTIFICATIONS_MAX, Handover
from tidings_hub.web.response_models import (
    ErrorDetail,
    ErrorResponse,
    NotificationResponse,
    NotifyBatchResults,
    NotifyUserResults,
)

# Values of rejected data among which the path of the error is searched: about a millisecond.
_SEARCHED_MAX = 1_000
_USERS = "users"


def notify(hub: NodeApi, body: object) -> NotificationResponse | NotifyUserResults | NotifyBatchResults:
    """Store the notifications of a request body, in one request to the service.

    The result depends on the body:

    - an object with `user`: its receipt
    - an object with `users`: one result per user
    - an array: one result per item, also if some items are wrong

    Raises:
        TidingsError: a single notification could not be stored, or the service stored none.
        TooLarge: more than `max_batch` items or `NOTIFICATIONS_MAX` notifications; none of them was stored.
    """
    now_ms = time.time_ns() // 1_000_000
    if isinstance(body, list):
        return _notify_batch(hub, body, now_ms)
    notifications = _parse_item(hub, body, now_ms)
    results = hub.notifications.store([notifications])
    if isinstance(body, dict) and _USERS in body:
        return NotifyUserResults(results=[_result(result) for result in results])
    if isinstance(results[0], TidingsError):
        raise results[0]
    return _receipt(results[0])


def _notify_batch(hub: NodeApi, body: list[object], now_ms: int) -> NotifyBatchResults:
    if not body:
        raise BadRequest("the array is empty; send at least one notification")
    if len(body) > hub.settings.max_batch:
        _reject(hub, f"{len(body)} items in one request; max_batch allows {hub.settings.max_batch}")
    items = [_parse_item_or_error(hub, value, now_ms) for value in body]
    groups = [item for item in items if not isinstance(item, TidingsError)]
    count = sum(map(len, groups))
    if count > NOTIFICATIONS_MAX:
        _reject(hub, f"{count:,} notifications are more than {NOTIFICATIONS_MAX:,}; send several requests")
    results = iter(hub.notifications.store(groups) if groups else ())
    return NotifyBatchResults(
        results=[_item_result(value, item, results) for value, item in zip(body, items, strict=True)]
    )


def _reject(hub: NodeApi, message: str) -> NoReturn:
    hub.metrics.api_too_large += 1
    raise TooLarge(message)


def _parse_item_or_error(hub: NodeApi, value: object, now_ms: int) -> list[Notification] | TidingsError:
    try:
        return _parse_item(hub, value, now_ms)
    except TidingsError as error:
        return error


def _parse_item(hub: NodeApi, value: object, now_ms: int) -> list[Notification]:
    return read_request(value, now_ms=now_ms, max_bytes=hub.settings.publication_max_bytes, searched_max=_SEARCHED_MAX)


def _item_result(
    value: object, item: Sequence[Notification] | TidingsError, results: Iterator[Handover]
) -> NotificationResponse | ErrorResponse | NotifyUserResults:
    if isinstance(item, TidingsError):
        return _result(item)
    user_results = [_result(next(results)) for _ in item]
    is_per_user = isinstance(value, dict) and _USERS in value
    return NotifyUserResults(results=user_results) if is_per_user else user_results[0]


def _result(result: Handover) -> NotificationResponse | ErrorResponse:
    if isinstance(result, TidingsError):
        return ErrorResponse(error=ErrorDetail(**result.to_wire()))
    return _receipt(result)


def _receipt(receipt: NotificationReceipt) -> NotificationResponse:
    return NotificationResponse(id=receipt.id, state=receipt.state, duplicate=receipt.duplicate)
