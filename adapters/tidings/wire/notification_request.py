"""The notifications of one call of `notify`, or of one object in a request to the HTTP API (PROTOCOL.md section 8)."""

from __future__ import annotations

from dataclasses import replace

from tidings.wire.channels import check_id
from tidings.wire.ids import new_id
from tidings.wire.notification import OPTIONAL_FIELDS, Notification, checked, known_fields
from tidings.wire.notification_fields import check_life_ms, check_users
from tidings.wire.payload import MAX_BYTES

_REQUEST_FIELDS = frozenset({"category", "user", "users", "title", "expires_in_s", *OPTIONAL_FIELDS})


def read_request(
    fields: object, *, now_ms: int, max_bytes: int = MAX_BYTES, searched_max: int | None = None
) -> list[Notification]:
    """The notifications of a call of `notify`, or of an object in an HTTP request: one for each user.

    `fields`: the arguments by name: `category`, `user` or `users`, `title`, and optionally `body`, `url`, `icon`,
    `data`, `id`, `group` and `expires_in_s`. What is None is absent. Without `id` they get a new one, the same for all.
    `max_bytes`: the largest notification, with `EVENT_BYTES` for its event. `searched_max`: see `encode_data`.

    Raises:
        BadRequest, BadChannel, BadId, BadData, TooLarge: the message begins with the field.
    """
    fields = known_fields(fields, _REQUEST_FIELDS)
    users = check_users(fields.get("user"), fields.get("users"))
    id_, life_s = fields.get("id"), fields.get("expires_in_s")
    ends_ms = None if life_s is None else now_ms + check_life_ms(life_s)
    longest = checked(
        fields,
        max(users, key=len),
        new_id(now_ms) if id_ is None else check_id(id_),
        now_ms,
        ends_ms,
        max_bytes=max_bytes,
        searched_max=searched_max,
    )
    return [replace(longest, user=user) for user in users]
