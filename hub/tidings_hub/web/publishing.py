"""`POST /api/publish`: from what was sent to what the broker takes, and back."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn

from tidings.errors import BadChannel, BadRequest, TidingsError, TooLarge
from tidings.publishers.base import OWN_ID_S, OutgoingPublication
from tidings.receipts import Receipt
from tidings.wire.channels import user_channel
from tidings.wire.ids import new_id
from tidings.wire.payload import encode_data
from tidings.wire.publication import NO_OPTIONS, encode_body, options_for
from tidings_hub.services.api import NodeApi
from tidings_hub.web.models import (
    TARGETS,
    EachChannel,
    EachItem,
    ErrorAnswer,
    Fault,
    Publish,
    PublishToChannel,
    PublishToChannels,
    ReceiptAnswer,
)
from tidings_hub.web.validate import validated


@dataclass(frozen=True, slots=True)
class Wanted:
    """One object of a request: what goes out for it, and whether it is answered channel by channel."""

    items: list[OutgoingPublication]
    many: bool


def publish(hub: NodeApi, body: object, *, report: bool = False) -> ReceiptAnswer | EachChannel | EachItem:
    """Publishes what `body` asks for, in one round trip to the broker; with `report` all of it asks for one.

    One object with `channel` or `user` -> its receipt; with `channels` -> one answer per channel; an
    array -> one answer per item, also when some are wrong.

    Raises:
        TidingsError: a single object that could not be published; a body that is neither; TooLarge
            for more than `max_batch` publications, of which none was published then.
    """
    if isinstance(body, list):
        return _publish_batch(hub, body, report=report)
    wanted = _wanted(hub, body, report=report)
    results = _hand_over(hub, wanted.items)
    if wanted.many:
        return EachChannel(results=[_answer(result) for result in results])
    if isinstance(results[0], TidingsError):
        raise results[0]
    return _receipt(results[0])


def _publish_batch(hub: NodeApi, body: list[object], *, report: bool) -> EachItem:
    if not body:
        raise BadRequest("an empty array publishes nothing")
    if len(body) > hub.settings.max_batch:
        _refuse_batch(hub, len(body))
    wanted = [_wanted_or_error(hub, item, report=report) for item in body]
    results = iter(_hand_over(hub, [item for each in wanted if isinstance(each, Wanted) for item in each.items]))
    return EachItem(results=[_item_answer(each, results) for each in wanted])


def _hand_over(hub: NodeApi, items: Sequence[OutgoingPublication]) -> list[Receipt | TidingsError]:
    if len(items) > hub.settings.max_batch:
        _refuse_batch(hub, len(items))
    results = hub.publish(items) if items else []
    for item, result in zip(items, results, strict=True):
        if isinstance(result, Receipt) and item.wants_report:
            hub.open_report(item.channel, result)
    return results


def _refuse_batch(hub: NodeApi, size: int) -> NoReturn:
    hub.metrics.api_too_large += 1
    raise TooLarge(f"{size} publications in one request; max_batch allows {hub.settings.max_batch}")


def _wanted_or_error(hub: NodeApi, item: object, *, report: bool) -> Wanted | TidingsError:
    try:
        return _wanted(hub, item, report=report)
    except TidingsError as error:
        return error


def _wanted(hub: NodeApi, item: object, *, report: bool) -> Wanted:
    """What one object asks for.

    Raises:
        CallerError: its target, event, id or data are wrong.
    """
    if not isinstance(item, dict):
        raise BadRequest("a publication is an object with event, data and one of channel, channels and user")
    targets = [name for name in TARGETS if name in item]
    if len(targets) != 1:
        given = " and ".join(targets) or "none"
        raise BadChannel(f"give exactly one of channel, channels and user, not {given}; nothing is sent to everyone")
    wanted: Publish = validated(TARGETS[targets[0]], item)
    settings = hub.settings
    try:
        data = encode_data(wanted.data, max_bytes=settings.publication_max_bytes)
    except TooLarge:
        hub.metrics.publications_too_large += 1
        raise
    idempotency_s = settings.idempotency_s if wanted.id else min(OWN_ID_S, settings.idempotency_s)
    at_ms = time.time_ns() // 1_000_000
    id_ = wanted.id or new_id(at_ms)
    options = options_for(report=report, ack=wanted.ack)
    body = encode_body(wanted.event, data, id=id_, at_ms=at_ms, options=options)
    return Wanted(
        [
            OutgoingPublication(channel, body, id_, idempotency_s, options != NO_OPTIONS)
            for channel in _channels(wanted)
        ],
        many=isinstance(wanted, PublishToChannels),
    )


def _channels(wanted: Publish) -> list[str]:
    if isinstance(wanted, PublishToChannel):
        return [wanted.channel]
    return wanted.channels if isinstance(wanted, PublishToChannels) else [user_channel(wanted.user)]


def _item_answer(
    each: Wanted | TidingsError, results: Iterator[Receipt | TidingsError]
) -> ReceiptAnswer | ErrorAnswer | EachChannel:
    if isinstance(each, TidingsError):
        return _answer(each)
    answers = [_answer(next(results)) for _ in each.items]
    return EachChannel(results=answers) if each.many else answers[0]


def _answer(result: Receipt | TidingsError) -> ReceiptAnswer | ErrorAnswer:
    if isinstance(result, TidingsError):
        return ErrorAnswer(error=Fault(**result.to_wire()))
    return _receipt(result)


def _receipt(receipt: Receipt) -> ReceiptAnswer:
    return ReceiptAnswer(id=receipt.id, cursor=receipt.cursor, duplicate=receipt.duplicate)
