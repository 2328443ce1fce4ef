"""From the arguments of a call to what a publisher sends, and from its results to receipts.

The whole of `emit`, without I/O: the emitters are shells around it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from tidings.errors import BadChannel, BadConfig, Internal, TidingsError
from tidings.models.registry import ModelOptions, Registry, describe
from tidings.publishers.base import CALLER_ID_S, OWN_ID_S, OutgoingPublication, PublishResult
from tidings.receipts import BatchFailed, Receipt
from tidings.wire.channels import check_channel, check_channels, check_id, user_channel
from tidings.wire.ids import new_id
from tidings.wire.payload import MAX_BYTES, encode_data
from tidings.wire.publication import NO_OPTIONS, encode_body, options_for

MODEL_EVENT = "updated_model"


def resolve_channels(*, channel: str | None, channels: Iterable[str] | None, user: str | None) -> list[str] | None:
    """The channels that one call names, or None if it names none.

    Raises:
        BadChannel: more than one of the three was given, or what was given is
            empty or malformed.
    """
    given = [
        name for name, value in (("channel", channel), ("channels", channels), ("user", user)) if value is not None
    ]
    if len(given) > 1:
        raise BadChannel(f"{' and '.join(given)} at once; give one of channel, channels and user")
    if channel is not None:
        return [check_channel(channel)]
    if channels is not None:
        return check_channels(channels)
    if user is not None:
        return [user_channel(user)]
    return None


class PublicationBuilder:
    """Turns the arguments of `emit` and `push_model` into outgoing publications, one per channel.

    `clock_ns` is the time in nanoseconds since 1970. An event with data larger than
    `publication_max_bytes` is refused (TooLarge), never cut. `one_way`: why nobody can be asked to acknowledge.
    """

    def __init__(
        self,
        *,
        publication_max_bytes: int = MAX_BYTES,
        registry: Registry | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
        one_way: str = "",
    ) -> None:
        self.registry = Registry() if registry is None else registry
        self.max_bytes = publication_max_bytes
        self._clock_ns = clock_ns
        self._one_way = one_way
        self._latest_us = 0

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
            BadConfig: acknowledgements are wanted where none can come back.
        """
        if ack and self._one_way:
            raise BadConfig(self._one_way)
        found = resolve_channels(channel=channel, channels=channels, user=user)
        if found is None:
            raise BadChannel("no channel given; nothing is ever sent to everyone: give channel, channels or user")
        return self._outgoing(event, data, found, id, options_for(ack=ack))

    def build_model(
        self,
        obj: object,
        shape: ModelOptions,
        *,
        channel: str | None = None,
        channels: Iterable[str] | None = None,
        user: str | None = None,
    ) -> list[OutgoingPublication]:
        """What `push_model` sends.

        Raises:
            BadChannel, BadData, BadId, BadRequest, TooLarge: nothing is sent.
        """
        given = resolve_channels(channel=channel, channels=channels, user=user)
        data, found = describe(obj, shape, self.registry.rule(type(obj)), channels=given, now_us=self._now_us())
        return self._outgoing(MODEL_EVENT, data, found, shape.get("id"), options_for())

    def _outgoing(
        self, event: str, data: object, channels: list[str], given_id: str | None, options: str
    ) -> list[OutgoingPublication]:
        now_ms = self._clock_ns() // 1_000_000
        if given_id is None:
            chosen_id, idempotency_s = new_id(now_ms), OWN_ID_S
        else:
            chosen_id, idempotency_s = check_id(given_id), CALLER_ID_S
        data_json = encode_data(data, max_bytes=self.max_bytes)
        body = encode_body(event, data_json, id=chosen_id, at_ms=now_ms, options=options)
        return [
            OutgoingPublication(channel, body, chosen_id, idempotency_s, options != NO_OPTIONS) for channel in channels
        ]

    def _now_us(self) -> int:
        """Microseconds since 1970, never less than before even if the clock is set back."""
        # Two threads may race here: the worst is a version equal to or just below the other's, which
        # two pushes of one object at the same moment cannot order anyway.
        self._latest_us = max(self._latest_us, self._clock_ns() // 1000)
        return self._latest_us


def without_own_duplicates(
    sent: Sequence[OutgoingPublication], results: Sequence[PublishResult]
) -> list[PublishResult]:
    """The results as the caller sees them, one per item sent.

    An id that the emitter made itself can only be a duplicate of the publisher's own
    retry: the caller published once, and its receipt says so.

    Raises:
        Internal: the publisher did not answer for every item.
    """
    if len(results) != len(sent):
        raise Internal(f"{len(results)} results for {len(sent)} publications; please report this")
    return [
        replace(result, duplicate=False)
        if isinstance(result, Receipt) and result.duplicate and item.idempotency_s == OWN_ID_S
        else result
        for item, result in zip(sent, results, strict=True)
    ]


def receipts_or_raise(results: Sequence[PublishResult]) -> list[Receipt]:
    """The receipts of one call.

    Raises:
        TidingsError: nothing was taken, all for the same kind of reason: that reason.
        BatchFailed: some were taken, or the reasons differ; it has all results.
    """
    failures = [result for result in results if isinstance(result, TidingsError)]
    if not failures:
        return [result for result in results if isinstance(result, Receipt)]
    if len(failures) == len(results) and len({type(failure) for failure in failures}) == 1:
        raise failures[0]
    raise BatchFailed(results) from failures[0]
