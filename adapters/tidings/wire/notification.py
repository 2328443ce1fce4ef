"""One notification: a message for the inbox of one user (PROTOCOL.md section 7).

    {"category": "order_shipped", "user": "7", "title": "It has shipped", "id": "order-42", "at_ms": 1764090000000,
     "body": …, "url": …, "icon": …, "data": …, "group": …, "expires_at_ms": …}

The second line is optional. This is its form in a Redis stream, in a queue and for the notification service. `title`
and `body` are text that no program interprets as HTML. `url` and `icon` can only lead to a page or an image.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tidings.errors import BadData, BadRequest, TooLarge
from tidings.number_checks import check_count
from tidings.wire.channels import check_id
from tidings.wire.notification_fields import (
    LIFE_MAX_S,
    check_body,
    check_category,
    check_group,
    check_link,
    check_title,
    check_users,
)
from tidings.wire.payload import MAX_BYTES, MAX_DEPTH, encode_data, is_too_deep

# The event of a notification in an outbox.
ROW_EVENT = "tidings:notify"
# The notification is published as a part of an event. So many bytes are for its times, ids and counts.
EVENT_BYTES = 1_024
# In an event, data is in an item in an object.
EVENT_DEPTH = 2
# The end of the year 9999: later times are none in Python and in databases.
AT_MAX_MS = 253_402_300_799_999
_SHOWN_MAX = 40
OPTIONAL_FIELDS = ("body", "url", "icon", "data", "id", "group")
_STORED_FIELDS = frozenset({"category", "user", "title", "at_ms", "expires_at_ms", *OPTIONAL_FIELDS})
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class Notification:
    """One notification, checked. `data_json` is compact JSON; what is None is absent.

    `id`: repeating it for the same user within seven days stores nothing new. Times are milliseconds since 1970, by the
    clock of the program that made it.
    """

    category: str
    user: str
    title: str
    id: str
    at_ms: int
    body: str | None = None
    url: str | None = None
    icon: str | None = None
    data_json: bytes | None = None
    group: str | None = None
    expires_at_ms: int | None = None

    def encode(self) -> bytes:
        """The notification as JSON."""
        return self._json(user=self.user, id=self.id, at_ms=self.at_ms, expires_at_ms=self.expires_at_ms)

    def encode_for(self, users: Sequence[str]) -> bytes:
        """The same notification for several users, as a node sends it to the notification service."""
        return self._json(users=list(users), id=self.id, at_ms=self.at_ms, expires_at_ms=self.expires_at_ms)

    def encode_request(self) -> bytes:
        """The notification as `notification_request` reads it: without its time."""
        life_s = None if self.expires_at_ms is None else (self.expires_at_ms - self.at_ms) / 1000
        return self._json(user=self.user, id=self.id, expires_in_s=life_s)

    def encode_row(self) -> bytes:
        """What columns of an outbox do not have: all but user, id and time."""
        return self._json(expires_at_ms=self.expires_at_ms)

    def _json(self, **head: object) -> bytes:
        fields = {
            "category": self.category,
            **head,
            "title": self.title,
            "body": self.body,
            "url": self.url,
            "icon": self.icon,
            "group": self.group,
        }
        text = _encode({name: value for name, value in fields.items() if value is not None}).encode()
        return text if self.data_json is None else b'%b,"data":%b}' % (text[:-1], self.data_json)


def decode(message: bytes | str, *, max_bytes: int = MAX_BYTES) -> Notification:
    """The notification in a stream, a queue or a request to the notification service, which `encode` wrote.

    Raises:
        BadRequest, BadChannel, BadId, BadData, TooLarge: it is not one.
    """
    if len(message) > max_bytes:
        raise TooLarge(f"a notification of {len(message)} bytes; publication_max_bytes allows {max_bytes}")
    try:
        fields = json.loads(message)
    except (ValueError, RecursionError) as error:
        raise BadData(f"a notification that is not JSON: {error}") from error
    return read_notification(fields, max_bytes=max_bytes)


def read_notifications(fields: object, *, max_bytes: int = MAX_BYTES) -> list[Notification]:
    """As `read_notification`, for what `encode` or `encode_for` wrote: one for each user.

    Raises:
        BadRequest, BadChannel, BadId, BadData, TooLarge: it is not one.
    """
    if not isinstance(fields, Mapping) or "users" not in fields:
        return [read_notification(fields, max_bytes=max_bytes)]
    users = check_users(fields.get("user"), fields["users"])
    shared = {name: value for name, value in fields.items() if name != "users"}
    longest = read_notification({**shared, "user": max(users, key=len)}, max_bytes=max_bytes)
    return [replace(longest, user=user) for user in users]


def read_notification(fields: object, *, max_bytes: int = MAX_BYTES) -> Notification:
    """As `decode`, for parsed JSON.

    Raises:
        BadRequest, BadChannel, BadId, BadData, TooLarge: it is not one.
    """
    fields = known_fields(fields, _STORED_FIELDS)
    (user,) = check_users(fields.get("user"), None)
    at_ms = check_count(fields.get("at_ms"), "at_ms", least=0, most=AT_MAX_MS, error=BadRequest)
    ends_ms = fields.get("expires_at_ms")
    if ends_ms is not None:
        most = min(AT_MAX_MS, at_ms + LIFE_MAX_S * 1000)
        ends_ms = check_count(ends_ms, "expires_at_ms", least=at_ms + 1, most=most, error=BadRequest)
    return checked(fields, user, check_id(fields.get("id")), at_ms, ends_ms, max_bytes=max_bytes, searched_max=None)


def checked(
    fields: Mapping[str, object],
    user: str,
    id: str,
    at_ms: int,
    expires_at_ms: int | None,
    *,
    max_bytes: int,
    searched_max: int | None,
) -> Notification:
    """The notification of `fields` for a checked user, id and times. `searched_max`: see `encode_data`.

    Raises:
        BadRequest, BadId, BadData, TooLarge: another field is malformed, or it is too large.
    """
    room_bytes = max_bytes - min(EVENT_BYTES, max_bytes // 2)
    data, url, icon, group = (fields.get(name) for name in ("data", "url", "icon", "group"))
    searched = {} if searched_max is None else {"searched_max": searched_max}
    notification = Notification(
        check_category(fields.get("category")),
        user,
        check_title(fields.get("title")),
        id,
        at_ms,
        body=check_body(fields.get("body")),
        url=None if url is None else check_link(url, "url"),
        icon=None if icon is None else check_link(icon, "icon"),
        data_json=None if data is None else _shallow(encode_data(data, max_bytes=room_bytes, **searched)),
        group=None if group is None else check_group(group),
        expires_at_ms=expires_at_ms,
    )
    size_bytes = len(notification.encode())
    if size_bytes > room_bytes:
        raise TooLarge(
            f"a notification of {size_bytes} bytes; publication_max_bytes = {max_bytes} leaves {room_bytes} for it"
        )
    return notification


def _shallow(data_json: bytes) -> bytes:
    """`data_json`, if its event can be published.

    Raises:
        BadData: it cannot.
    """
    if is_too_deep(b"[" * EVENT_DEPTH + data_json + b"]" * EVENT_DEPTH):
        raise BadData(f"data of a notification is nested deeper than {MAX_DEPTH - EVENT_DEPTH} levels")
    return data_json


def known_fields(fields: object, names: frozenset[str]) -> Mapping[str, object]:
    """`fields`, if it is an object without other names than these.

    Raises:
        BadRequest: it is not.
    """
    if not isinstance(fields, Mapping):
        raise BadRequest("a notification is an object with category, user, title and other fields")
    unknown = next((name for name in fields if name not in names), None)
    if unknown is not None:
        raise BadRequest(
            f"{str(unknown)[:_SHOWN_MAX]!a} is no field of a notification; it has {', '.join(sorted(names))}"
        )
    return fields
