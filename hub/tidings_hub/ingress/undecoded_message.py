"""Messages of kombu whose body is left as it was sent.

kombu decompresses a body when it creates a message, if the header `compression` names a method: 1.5 MB can become 3 GB
before the hub can look at its size. py-amqp decodes a body by the `content_encoding`. A hub needs neither.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import secrets
from collections import OrderedDict
from typing import Any

from tidings.errors import TidingsError
from tidings.publishers.queue.queue_connection import UNREADABLE
from tidings.wire.payload import is_too_deep
from tidings_hub.core import strict_json

logger = logging.getLogger("tidings.ingress")

_COMPRESSION = "compression"
_NAME_MAX = 40
_TYPE_MARK = b"__type__"
# What kombu writes around a body, with many headers.
_ENVELOPE_BYTES = 65_536
# JSON can write a byte as six characters.
_ESCAPED = 6
# An element of a Redis list may have 512 MB. To carry 100 MB to the dead letters stopped a node for 4 s, and took eight
# times as much memory.
_CARRIED_MAX_BYTES = 8_388_608
# More than a publication has by default. To hash a whole body of 128 MB would stop the event loop.
_HASHED_BYTES = 65_536


def leave_undecoded(channel: Any, queue: str, *, message_max_bytes: int) -> None:
    """Make a channel of kombu deliver messages of `queue` with their original body. Call it before it consumes.

    An element of a Redis list that is too large for a message of `message_max_bytes` is not parsed.
    """
    # An attribute of py-amqp. Other transports ignore it.
    channel.auto_decode = False
    kind: Any = channel.Message
    channel.Message = type("UndecodedMessage", (kind,), {"__init__": _undecoded_init(kind, queue)})
    if "BRPOP" in getattr(channel, "handlers", ()):
        element_max_bytes = _ESCAPED * message_max_bytes + _ENVELOPE_BYTES
        channel.client.parse_response = _readable_elements(channel.client.parse_response, element_max_bytes)
        _return_in_order(channel.qos)


def _return_in_order(qos: Any) -> None:
    """Let kombu return messages of a Redis list that are not acknowledged so that the first one is next again.

    kombu pushes each to the end that is read next, the first one first: the last one would be next.
    """
    restore = qos.restore_unacked

    def restore_last_first() -> None:
        delivered: OrderedDict[str, Any] = qos._delivered  # noqa: SLF001 - kombu has no other place for it
        for tag in reversed(list(delivered)):
            delivered.move_to_end(tag)
        restore()

    qos.restore_unacked = restore_last_first


def _readable_elements(parse_response: Any, max_bytes: int) -> Any:
    """Kombu's reader of a Redis list, for all elements. Those that it cannot handle it would lose, and reconnect."""

    def parse(connection: Any, command_name: str, **options: Any) -> Any:
        reply = parse_response(connection, command_name, **options)
        if command_name != "BRPOP" or not reply:
            return reply
        name, element = reply
        if len(element) > _CARRIED_MAX_BYTES:
            logger.warning(
                "an element of %d bytes in a Redis list: its dead letter has the first %d",
                *(len(element), _CARRIED_MAX_BYTES),
            )
            element = element[:_CARRIED_MAX_BYTES]
        is_readable = len(element) <= max_bytes and _is_readable(element)
        return name, element if is_readable else json.dumps({"body": element.decode("utf-8", "replace")})

    return parse


def _is_readable(element: bytes) -> bool:
    """Whether kombu can read the element, store it until it is acknowledged, and return it to the list."""
    try:
        # Half of a surrogate pair can be read but not stored. So can an infinite priority, which cannot be returned.
        value = strict_json.loads(element)
    except TidingsError:
        return False
    # Python's parser goes about 1,000 levels deep, less the calls around it: here it could succeed, and then fail.
    if is_too_deep(element):
        return False
    # kombu replaces objects with this name by values of Python, and raises if it cannot. An escape can hide the name.
    return _TYPE_MARK not in (json.dumps(value).encode() if b"\\u" in element else element)


def _undecoded_init(kind: Any, queue: str) -> Any:
    def initialize(self: Any, raw: Any, channel: Any = None, **options: Any) -> None:
        # Either an amqp.Message, or any JSON that a program wrote to a list.
        if not hasattr(raw, "properties"):
            raw = _well_formed(raw, queue)
            headers = raw["headers"]
        else:
            headers = raw.properties.setdefault("application_headers", {})
        method = headers.pop(_COMPRESSION, None)
        kind.__init__(self, raw, channel=channel, **options)
        if method is not None:
            # A message that returns to a list keeps it.
            headers[_COMPRESSION] = method
        self.compression = str(method)[:_NAME_MAX] if method else ""
        # kombu marks an element that returned to a list in either place. RabbitMQ has its own flag, not a header.
        self.is_restored = isinstance(raw, dict) and True in (raw.get("redelivered"), headers.get("redelivered"))

    return initialize


def _well_formed(raw: Any, queue: str) -> dict[str, Any]:
    """The dictionary that kombu expects of a list's element. Without this, a malformed element ends the connection."""
    fields: dict[str, Any] = raw if isinstance(raw, dict) else {"body": json.dumps(raw)}
    for name in ("properties", "headers"):
        if not isinstance(fields.get(name), dict):
            fields[name] = {}
    properties = fields["properties"]
    info = properties.get("delivery_info")
    # Where kombu puts the message back, if this node does not acknowledge it.
    properties["delivery_info"] = (info if isinstance(info, dict) else {}) | {"exchange": "", "routing_key": queue}
    # kombu holds one message for each tag. Of several with the tag of their producer it would lose all but the last.
    properties["delivery_tag"] = secrets.token_hex(16)
    body = fields.get("body")
    if not isinstance(body, str):
        fields["body"] = body = json.dumps(body)
        properties["body_encoding"] = None
    if properties.get("body_encoding") != "base64" or not _is_base64(body):
        properties["body_encoding"] = None
    return fields


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text)
    except ValueError:
        return False
    return True


def body_of(message: Any) -> bytes:
    """The body as it was sent."""
    body = message.body
    return body.encode("utf-8", "surrogatepass") if isinstance(body, str) else bytes(body or b"")


def id_of(message: Any) -> str:
    """The property `message_id`, or ""."""
    return str(message.properties.get("message_id") or "")


def has_unreadable_properties(message: Any) -> bool:
    """Whether py-amqp could not decode the properties, so that they are missing."""
    return bool(message.content_type == UNREADABLE)


def is_redelivered(message: Any) -> bool:
    """Whether the queue has delivered the message before, to this node or another."""
    return message.is_restored or message.delivery_info.get("redelivered") is True


def key_of(message: Any) -> str:
    """The same for each delivery of one message: a hash of its id, its size and both ends of its body."""
    body = body_of(message)
    digest = hashlib.sha256(b"%b %d " % (id_of(message).encode("utf-8", "surrogatepass"), len(body)))
    digest.update(body[:_HASHED_BYTES])
    digest.update(body[-_HASHED_BYTES:])
    return digest.hexdigest()[:40]
