"""`POST /api/publish`: parses the request body, publishes through the broker, and builds the response."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn, TypeAlias

from tidings.errors import BadChannel, BadEvent, BadRequest, TidingsError, TooLarge
from tidings.publishers.base import OWN_ID_S, OutgoingPublication
from tidings.receipts import Receipt
from tidings.wire.channels import INBOX_EVENTS, namespace_of, user_channel
from tidings.wire.ids import new_id
from tidings.wire.payload import encode_data
from tidings.wire.publication import NO_OPTIONS, encode_body, encode_inbox_body, options_for
from tidings_hub.core.access import USER_NAMESPACE
from tidings_hub.services.api import NodeApi
from tidings_hub.web.request_models import TARGETS, PublishBody, PublishToChannel, PublishToChannels, validate
from tidings_hub.web.response_models import BatchResults, ChannelResults, ErrorDetail, ErrorResponse, ReceiptResponse

# Values of a rejected publication among which the path of the error is searched: about a millisecond.
_SEARCHED_MAX = 1_000


PublishResponse: TypeAlias = ReceiptResponse | ChannelResults | BatchResults


@dataclass(frozen=True, slots=True)
class PublishItem:
    """The publications of one object in a request. `is_per_channel`: the response has one result per channel."""

    publications: list[OutgoingPublication]
    is_per_channel: bool


@dataclass(frozen=True, slots=True)
class UnsentPublications:
    """A request whose publications are not published yet. `items`: in order; an item that is wrong is its error."""

    items: list[PublishItem | TidingsError]
    publications: list[OutgoingPublication]
    is_array: bool

    def response(self, hub: NodeApi, results: Sequence[Receipt | TidingsError]) -> PublishResponse:
        """The response, from the result of each publication.

        Raises:
            TidingsError: the single object could not be published.
        """
        for publication, result in zip(self.publications, results, strict=True):
            if publication.wants_report and isinstance(result, Receipt):
                hub.open_report(publication.channel, result)
        if self.is_array:
            remaining = iter(results)
            return BatchResults(results=[_item_result(item, remaining) for item in self.items])
        item = self.items[0]
        if isinstance(item, PublishItem) and item.is_per_channel:
            return ChannelResults(results=[_channel_result(result) for result in results])
        if isinstance(results[0], TidingsError):
            raise results[0]
        return _receipt_response(results[0])


def read_request(hub: NodeApi, body: object, *, report: bool = False) -> UnsentPublications:
    """Parse the body of a request. `report`: keep a delivery report for each publication.

    Raises:
        TidingsError: a single object is wrong, or the body is neither an object nor an array.
        TooLarge: more than `max_batch` publications.
    """
    items: list[PublishItem | TidingsError]
    if not isinstance(body, list):
        items = [_parse_item(hub, body, report=report)]
    elif not body:
        raise BadRequest("the array is empty; send at least one publication")
    elif len(body) > hub.settings.max_batch:
        _reject_batch(hub, len(body))
    else:
        items = [_parse_item_or_error(hub, value, report=report) for value in body]
    publications = [publication for item in items if isinstance(item, PublishItem) for publication in item.publications]
    if len(publications) > hub.settings.max_batch:
        _reject_batch(hub, len(publications))
    return UnsentPublications(items, publications, isinstance(body, list))


def publish(hub: NodeApi, body: object, *, report: bool = False) -> PublishResponse:
    """Publish the contents of a request body, in one round trip to the broker.

    `report`: keep a delivery report for each publication. The result depends on the body:

    - an object with `channel` or `user`: its receipt
    - an object with `channels`: one result per channel
    - an array: one result per item, also if some items are wrong

    Raises:
        TidingsError: a single object could not be published, or the body is neither an object nor an array.
        TooLarge: more than `max_batch` publications; none of them was published.
    """
    request = read_request(hub, body, report=report)
    return request.response(hub, hub.publish(request.publications) if request.publications else [])


def _reject_batch(hub: NodeApi, size: int) -> NoReturn:
    hub.metrics.api_too_large += 1
    raise TooLarge(f"{size} publications in one request; max_batch allows {hub.settings.max_batch}")


def _parse_item_or_error(hub: NodeApi, value: object, *, report: bool) -> PublishItem | TidingsError:
    try:
        return _parse_item(hub, value, report=report)
    except TidingsError as error:
        return error


def _parse_item(hub: NodeApi, value: object, *, report: bool) -> PublishItem:
    """The publications of one object of a request.

    Raises:
        CallerError: its target, event, id or data are wrong.
    """
    if not isinstance(value, dict):
        raise BadRequest("a publication is an object with event, data and one of channel, channels and user")
    targets = [name for name in TARGETS if name in value]
    if len(targets) != 1:
        names = " and ".join(targets) or "none"
        raise BadChannel(f"give exactly one of channel, channels and user, not {names}; nothing is sent to everyone")
    body = validate(TARGETS[targets[0]], value)
    settings = hub.settings
    try:
        data = encode_data(body.data, max_bytes=settings.publication_max_bytes, searched_max=_SEARCHED_MAX)
    except TooLarge:
        hub.metrics.publications_too_large += 1
        raise
    idempotency_s = settings.idempotency_s if body.id else min(OWN_ID_S, settings.idempotency_s)
    at_ms = time.time_ns() // 1_000_000
    id_ = body.id or new_id(at_ms)
    options = options_for(report=report, ack=body.ack)
    channels = _channels(body)
    if body.event in INBOX_EVENTS:
        _check_inbox_event(body.event, channels, options)
        encoded = encode_inbox_body(body.event, data, id=id_, at_ms=at_ms)
    else:
        encoded = encode_body(body.event, data, id=id_, at_ms=at_ms, options=options)
    return PublishItem(
        [OutgoingPublication(channel, encoded, id_, idempotency_s, options != NO_OPTIONS) for channel in channels],
        is_per_channel=isinstance(body, PublishToChannels),
    )


def _check_inbox_event(event: str, channels: list[str], options: str) -> None:
    """Allow an event of an inbox in the channel of its user: the notification service may only reach the hub."""
    if options != NO_OPTIONS or len(channels) != 1:
        raise BadEvent(f"the event {event!r} is reserved; choose another name")
    if namespace_of(channels[0]) != USER_NAMESPACE:
        raise BadChannel(f"the event {event!r} belongs into the channel of a user")


def _channels(body: PublishBody) -> list[str]:
    if isinstance(body, PublishToChannel):
        return [body.channel]
    return body.channels if isinstance(body, PublishToChannels) else [user_channel(body.user)]


def _item_result(
    item: PublishItem | TidingsError, results: Iterator[Receipt | TidingsError]
) -> ReceiptResponse | ErrorResponse | ChannelResults:
    if isinstance(item, TidingsError):
        return _channel_result(item)
    channel_results = [_channel_result(next(results)) for _ in item.publications]
    return ChannelResults(results=channel_results) if item.is_per_channel else channel_results[0]


def _channel_result(result: Receipt | TidingsError) -> ReceiptResponse | ErrorResponse:
    if isinstance(result, TidingsError):
        return ErrorResponse(error=ErrorDetail(**result.to_wire()))
    return _receipt_response(result)


def _receipt_response(receipt: Receipt) -> ReceiptResponse:
    return ReceiptResponse(id=receipt.id, cursor=receipt.cursor, duplicate=receipt.duplicate)
