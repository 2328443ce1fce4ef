"""A push message: its payload, small enough for every push service, and its topic."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Final

from tidings_notifications.core.counts import InboxCounts
from tidings_notifications.core.notification import StoredNotification

# What a record of 4,096 bytes holds beside its header, tag and delimiter (RFC 8291 section 4).
PAYLOAD_MAX_BYTES: Final = 3_993
# The longest time for which push services keep a message: four weeks.
TTL_MAX_S: Final = 28 * 86_400
# So many characters of a title remain before the link is left out.
_TITLE_MIN: Final = 80
# 24 bytes are the 32 characters of base64url that a topic may have (RFC 8030 section 5.4).
_TOPIC_BYTES: Final = 24
_ELLIPSIS: Final = "…"
# Fields that a message can lack, in the order in which they are left out. The service worker reads the inbox for them.
_DISPENSABLE: Final = ("data", "icon")
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def encode_payload(fields: Mapping[str, object], *, max_bytes: int = PAYLOAD_MAX_BYTES) -> bytes:
    """`fields` as JSON in at most `max_bytes`. Fields that are None are left out.

    If there are more bytes, first `data` and `icon` are left out, then `body` and `title` are cut, at last `url` goes.
    `truncated` is then true.
    """
    message = {name: value for name, value in fields.items() if value is not None}
    payload = _bytes(message)
    if len(payload) <= max_bytes:
        return payload
    message["truncated"] = True
    for name in _DISPENSABLE:
        message.pop(name, None)
        if len(payload := _bytes(message)) <= max_bytes:
            return payload
    _cut(message, "body", max_bytes, keep=0)
    _cut(message, "title", max_bytes, keep=_TITLE_MIN)
    if len(_bytes(message)) > max_bytes:
        message.pop("url", None)
        _cut(message, "title", max_bytes, keep=0)
    return _bytes(message)


def message_of(row: StoredNotification, counts: InboxCounts) -> dict[str, object]:
    """The fields of the message about a notification. A browser replaces a shown one that has the same `tag`."""
    return {
        "id": row.id,
        "category": row.category,
        "title": row.title,
        "body": row.body,
        "url": row.url,
        "icon": row.icon,
        "tag": row.id if row.group_key is None else row.group_key,
        "count": row.count,
        "created_at": row.created_ms,
        "counts": counts.to_wire(),
        "data": None if row.data is None else json.loads(row.data),
    }


def ttl_s(expires_ms: int | None, now_ms: int) -> int:
    """For how long a push service may keep a message for a browser that is away."""
    return TTL_MAX_S if expires_ms is None else max(0, min(TTL_MAX_S, (expires_ms - now_ms) // 1000))


def topic_of(group: str) -> str:
    """The topic of a group: a message replaces one of the same topic that the browser has not received yet."""
    return base64.urlsafe_b64encode(hashlib.sha256(group.encode()).digest()[:_TOPIC_BYTES]).decode()


def _cut(message: dict[str, object], name: str, max_bytes: int, *, keep: int) -> None:
    """Cut a text to the longest that fits. At least `keep` characters remain; without any, the field goes."""
    text = message.get(name)
    if not isinstance(text, str) or len(_bytes(message)) <= max_bytes:
        return
    low, high = keep, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        message[name] = text[:middle] + _ELLIPSIS
        low, high = (middle, high) if len(_bytes(message)) <= max_bytes else (low, middle - 1)
    if low:
        message[name] = text if low >= len(text) else text[:low] + _ELLIPSIS
    else:
        del message[name]


def _bytes(message: Mapping[str, object]) -> bytes:
    return _encode(message).encode()
