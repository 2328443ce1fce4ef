"""From the arguments of a call to what a publisher sends, and from its results to receipts.

Everything that `emit` and `notify` do, without I/O. The emitters add the publisher.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import NoReturn, Self, Unpack, cast

from tidings.errors import BadChannel, BadConfig, Internal, TidingsError, Unavailable
from tidings.models.describe import ModelOptions, describe, describe_departure
from tidings.models.proxies import unwrap
from tidings.models.rules import SHARED, Registry
from tidings.models.versions import EmitterClock, VersionOfKind
from tidings.options import NotifyOptions, Options
from tidings.publishers.base import (
    CALLER_ID_S,
    OWN_ID_S,
    NotifyResult,
    Outgoing,
    OutgoingNotification,
    OutgoingPublication,
    OutgoingResult,
    PublishResult,
)
from tidings.receipts import AsyncReceipt, BatchFailed, NotificationReceipt, Receipt
from tidings.wire.channels import check_channel, check_channels, check_id, user_channel
from tidings.wire.ids import new_id
from tidings.wire.notification_request import read_request
from tidings.wire.payload import MAX_BYTES, encode_data
from tidings.wire.publication import NO_OPTIONS, encode_body, options_for

MODEL_EVENT = "updated_model"


def resolve_channels(*, channel: str | None, channels: Iterable[str] | None, user: str | None) -> list[str] | None:
    """The channels that a call names, or None if it names none.

    Raises:
        BadChannel: more than one of the three is set, or the one that is set is empty or malformed.
    """
    targets = {"channel": channel, "channels": channels, "user": user}
    names = [name for name, value in targets.items() if value is not None]
    if len(names) > 1:
        raise BadChannel(f"{' and '.join(names)} at once; give one of channel, channels and user")
    if channel is not None:
        return [check_channel(channel)]
    if channels is not None:
        return check_channels(channels)
    if user is not None:
        return [user_channel(user)]
    return None


class PublicationBuilder:
    """Turns the arguments of `emit` and `push_model` into `OutgoingPublication` publications, one per channel.

    `clock_ns` returns nanoseconds since 1970. Data larger than `publication_max_bytes` raises TooLarge and is never
    truncated. `no_acks`: why publications cannot be acknowledged; empty if they can. `no_inbox`: why there are no
    notifications; empty if there are.
    """

    def __init__(
        self,
        *,
        publication_max_bytes: int = MAX_BYTES,
        registry: Registry | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
        no_acks: str = "",
        no_inbox: str = "",
    ) -> None:
        self.registry = Registry() if registry is None else registry
        self.max_bytes = publication_max_bytes
        self._clock_ns = clock_ns
        self._no_acks = no_acks
        self._no_inbox = no_inbox
        self._clock = EmitterClock(clock_ns)

    @classmethod
    def for_emitter(cls, options: Options) -> Self:
        """The builder of an emitter. Its registry also finds the classes of `tidings.models.register`."""
        return cls(
            publication_max_bytes=options.publication_max_bytes,
            registry=Registry(SHARED),
            no_acks=options.no_acks,
            no_inbox=options.no_inbox,
        )

    def build_event(
        self,
        event: str,
        data: object,
        *,
        channel: str | None = None,
        channels: Iterable[str] | None = None,
        user: str | None = None,
        id: str | None = None,
        ack: bool = False,
    ) -> list[OutgoingPublication]:
        """What `emit` sends.

        Raises:
            BadChannel, BadEvent, BadData, BadId, TooLarge: nothing is sent.
            BadConfig: `ack` is set, and publications cannot be acknowledged.
        """
        if ack and self._no_acks:
            raise BadConfig(self._no_acks)
        all_channels = resolve_channels(channel=channel, channels=channels, user=user)
        if all_channels is None:
            raise BadChannel("no channel given; nothing is ever sent to everyone: give channel, channels or user")
        return self._outgoing(event, data, all_channels, id, options_for(ack=ack))

    def build_notifications(self, category: str, **options: Unpack[NotifyOptions]) -> list[OutgoingNotification]:
        """What `notify` sends: one notification for each user.

        Raises:
            BadRequest, BadChannel, BadData, BadId, TooLarge: nothing is sent.
            BadConfig: the publisher takes no notifications.
        """
        if self._no_inbox:
            raise BadConfig(self._no_inbox)
        now_ms = self._clock_ns() // 1_000_000
        notifications = read_request({"category": category, **options}, now_ms=now_ms, max_bytes=self.max_bytes)
        has_caller_id = options.get("id") is not None
        return [OutgoingNotification(notification, has_caller_id) for notification in notifications]

    def build_model(
        self,
        obj: object,
        fallback: VersionOfKind | None = None,
        /,
        *,
        channel: str | None = None,
        channels: Iterable[str] | None = None,
        user: str | None = None,
        **options: Unpack[ModelOptions],
    ) -> list[OutgoingPublication]:
        """What `push_model` sends. `fallback`: the version of an object without one; the default is the time.

        Raises:
            BadChannel, BadData, BadId, BadRequest, TooLarge: nothing is sent.
        """
        named_channels = resolve_channels(channel=channel, channels=channels, user=user)
        model = unwrap(obj)
        rule = self.registry.rule(type(model))
        latest = self._clock.version() if fallback is None else fallback
        data, all_channels = describe(model, options, rule, channels=named_channels, fallback=latest)
        return self._outgoing(MODEL_EVENT, data, all_channels, options.get("id"), options_for())

    def build_departure(
        self, previous: object, present: object, fallback: VersionOfKind | None, channels: list[str]
    ) -> list[OutgoingPublication]:
        """The deletion of an object in channels that it has left. `previous`: the object as it was there.

        Raises:
            BadData, BadRequest, TooLarge: it cannot be published.
        """
        latest = self._clock.version() if fallback is None else fallback
        rule = self.registry.rule(type(present))
        data = describe_departure(previous, present, rule, channels=channels, fallback=latest)
        return self._outgoing(MODEL_EVENT, data, channels, None, options_for())

    def _outgoing(
        self, event: str, data: object, channels: list[str], caller_id: str | None, options: str
    ) -> list[OutgoingPublication]:
        now_ms = self._clock_ns() // 1_000_000
        if caller_id is None:
            id_, idempotency_s = new_id(now_ms), OWN_ID_S
        else:
            id_, idempotency_s = check_id(caller_id), CALLER_ID_S
        data_json = encode_data(data, max_bytes=self.max_bytes)
        body = encode_body(event, data_json, id=id_, at_ms=now_ms, options=options)
        return [OutgoingPublication(channel, body, id_, idempotency_s, options != NO_OPTIONS) for channel in channels]


def without_own_duplicates(
    items: Sequence[OutgoingPublication], results: Sequence[PublishResult]
) -> list[PublishResult]:
    """The results, one per item, with `duplicate` cleared where only the publisher's own retry caused it.

    The emitter generates a new id for each publication without one. If such an id is a duplicate, the publisher
    retried: the caller published once.

    Raises:
        Internal: the publisher did not return a result for every item.
    """
    if len(results) != len(items):
        raise Internal(f"{len(results)} results for {len(items)} publications; please report this")
    return [
        replace(result, duplicate=False)
        if isinstance(result, Receipt) and result.duplicate and item.idempotency_s == OWN_ID_S
        else result
        for item, result in zip(items, results, strict=True)
    ]


def without_own_repetitions(
    items: Sequence[OutgoingNotification], results: Sequence[NotifyResult]
) -> list[NotifyResult]:
    """As `without_own_duplicates`, for notifications.

    Raises:
        Internal: the publisher did not return a result for every item.
    """
    if len(results) != len(items):
        raise Internal(f"{len(results)} results for {len(items)} notifications; please report this")
    return [
        replace(result, duplicate=False)
        if isinstance(result, NotificationReceipt) and result.duplicate and not item.has_caller_id
        else result
        for item, result in zip(items, results, strict=True)
    ]


def no_time_left(items: Sequence[OutgoingNotification]) -> list[NotifyResult]:
    """The results of notifications whose batch has used its time for publications."""
    return [
        Unavailable("not sent: the publications took all the time; raise timeout_s, or send a smaller batch")
        for _ in items
    ]


def split_items(items: Sequence[Outgoing]) -> tuple[list[OutgoingPublication], list[OutgoingNotification]]:
    """The publications and the notifications among items."""
    return (
        [item for item in items if isinstance(item, OutgoingPublication)],
        [item for item in items if isinstance(item, OutgoingNotification)],
    )


def in_order_of(
    items: Sequence[Outgoing], published: Sequence[PublishResult], notified: Sequence[NotifyResult]
) -> list[OutgoingResult]:
    """The results of items that `split_items` has split."""
    of_publications, of_notifications = iter(published), iter(notified)
    return [
        next(of_publications) if isinstance(item, OutgoingPublication) else next(of_notifications) for item in items
    ]


def receipts_or_raise(results: Sequence[PublishResult]) -> list[Receipt]:
    """The receipts of one call.

    Raises:
        TidingsError: every publication failed with the same class of error; the first of them.
        BatchFailed: some were published, or the errors differ. It has all results.
    """
    failures = [result for result in results if isinstance(result, TidingsError)]
    if failures:
        _raise(results, failures)
    return [result for result in results if isinstance(result, Receipt)]


def notification_receipts_or_raise(results: Sequence[NotifyResult]) -> list[NotificationReceipt]:
    """As `receipts_or_raise`, for notifications."""
    failures = [result for result in results if isinstance(result, TidingsError)]
    if failures:
        _raise(results, failures)
    return [result for result in results if isinstance(result, NotificationReceipt)]


def _raise(results: Sequence[OutgoingResult], failures: Sequence[TidingsError]) -> NoReturn:
    if len(failures) == len(results) and len({type(failure) for failure in failures}) == 1:
        raise failures[0]
    raise BatchFailed(results) from failures[0]


def async_receipts_or_raise(results: Sequence[PublishResult]) -> list[AsyncReceipt]:
    """As `receipts_or_raise`, for results of `ack_wait.add_async_waiters`."""
    # Without ack=True they are plain receipts. Nothing is awaited then: their `wait` raises BadRequest at once.
    return cast("list[AsyncReceipt]", receipts_or_raise(results))
