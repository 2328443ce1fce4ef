"""The message of one publication or notification in a queue (PROTOCOL.md section 11).

The emitter writes the message once. The hub that reads it from the queue passes `body` to the broker unchanged:

    message = "t1 <channel> " body
    body    = "<id> <at_ms> <options> <event_bytes> <event as JSON>,<data as JSON>"      as in `publication`
    message = "n1 " <a notification as JSON>                                                    as in `notification`
"""

from __future__ import annotations

from dataclasses import dataclass

from tidings.errors import BadPacket, TooLarge
from tidings.wire.channels import INBOX_EVENTS, check_channel
from tidings.wire.notification import Notification
from tidings.wire.notification import decode as decode_notification
from tidings.wire.publication import VERSION, Publication, decode

NOTIFICATION_VERSION = b"n1"
CONTENT_TYPE = "application/x-tidings"
# The most bytes besides the data: version, channel, id, numbers, and the event's name in JSON.
HEAD_MAX_BYTES = 2_048
_SHOWN_MAX = 40
# Events that `decode` accepts from a broker, as JSON.
_INBOX_EVENTS = frozenset(b'"%b"' % name.encode() for name in INBOX_EVENTS)


@dataclass(frozen=True, slots=True)
class QueuedPublication:
    """The publication in a message. `body` is for the broker and also contains `id`, the publication's id."""

    channel: str
    id: str
    body: bytes
    data_json: bytes


def encode_queue_message(channel: str, body: bytes) -> bytes:
    """The message for a (checked) channel and a body of `publication.encode_body`."""
    return b"%b %b %b" % (VERSION, channel.encode(), body)


def encode_queue_notification(body: bytes) -> bytes:
    """The message for a notification, which `Notification.encode` wrote."""
    return b"%b %b" % (NOTIFICATION_VERSION, body)


def is_queue_notification(message: bytes) -> bool:
    """Whether a message is a notification: the rest of it is for `decode_queue_notification`."""
    return message.startswith(NOTIFICATION_VERSION + b" ")


def decode_queue_notification(message: bytes, *, publication_max_bytes: int) -> Notification:
    """The notification in a message.

    Raises:
        BadPacket: not a message of this version.
        BadRequest, BadChannel, BadId, BadData, TooLarge: the notification is malformed.
    """
    if not is_queue_notification(message):
        raise BadPacket(f"it begins with {message[:_SHOWN_MAX]!a}; a queued notification begins with n1")
    return decode_notification(message[len(NOTIFICATION_VERSION) + 1 :], max_bytes=publication_max_bytes)


def decode_queue_message(message: bytes, *, data_max_bytes: int) -> QueuedPublication:
    """The publication in a message. Its data is not parsed.

    Raises:
        BadPacket: not a message of this version, or malformed.
        BadChannel: its channel is malformed. TooLarge: more data than `data_max_bytes`.
    """
    if len(message) > data_max_bytes + HEAD_MAX_BYTES:
        raise TooLarge(f"a message of {len(message)} bytes; publication_max_bytes allows {data_max_bytes} of data")
    version, space, rest = message.partition(b" ")
    channel, _, body = rest.partition(b" ")
    if version != VERSION or not space:
        raise BadPacket(f"it begins with {message[:_SHOWN_MAX]!a}; a queued message begins with t1 and a channel")
    name = check_channel(channel.decode("ascii", "replace"))
    publication = _decode_body(name, body)
    if len(publication.data_json) > data_max_bytes:
        raise TooLarge(f"data of {len(publication.data_json)} bytes; publication_max_bytes allows {data_max_bytes}")
    return QueuedPublication(name, publication.id, body, publication.data_json)


def _decode_body(channel: str, body: bytes) -> Publication:
    """The body as nodes will read it, with placeholders for the numbers that the broker will assign."""
    message = b"%b 1 0 - %b" % (VERSION, body)
    try:
        publication = decode(channel, message, max_bytes=len(message))
    except BadPacket as error:
        raise BadPacket(str(error).replace("a broker message", "a queued message")) from error
    if publication.fragment[: publication.event_bytes] in _INBOX_EVENTS:
        raise BadPacket("a queued message whose event is reserved")
    return publication
