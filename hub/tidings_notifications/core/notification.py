"""A notification: as a backend sends it, and as the store has it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum


class Place(IntEnum):
    """Where a stored notification is. Only the first two are visible."""

    INBOX = 0
    ARCHIVED = 1
    # It collects a digest until `due_ms`.
    WAITING = 2
    # It has no content any more. The row remains as long as its caller's id counts.
    DELETED = 3


@dataclass(frozen=True, slots=True)
class NewNotification:
    """A checked notification for one user. `data`: JSON text. `caller_id`: the id that makes it once."""

    user: str
    category: str
    caller_id: str
    title: str
    body: str | None = None
    url: str | None = None
    icon: str | None = None
    data: str | None = None
    group: str | None = None
    expires_ms: int | None = None


@dataclass(slots=True)
class StoredNotification:
    """One row of the table. Times are unix milliseconds.

    `count`: how many notifications this digest stands for, otherwise 1. `idempotency_key` and `collapse_key`: see
    `ids`. `sweep_ms`: when the sweep has to look at the row next; None: only when it is old.
    """

    id: str
    user_id: str
    place: Place
    category: str
    title: str
    created_ms: int
    caller_id: str | None = None
    idempotency_key: str | None = None
    body: str | None = None
    url: str | None = None
    icon: str | None = None
    data: str | None = None
    group_key: str | None = None
    collapse_key: str | None = None
    count: int = 1
    due_ms: int | None = None
    expires_ms: int | None = None
    sweep_ms: int | None = None
    seen_ms: int | None = None
    read_ms: int | None = None
    archived_ms: int | None = None
    deleted_ms: int | None = None


class PushRule(StrEnum):
    """When a category's notifications are pushed."""

    NEVER = "never"
    # After `push_after_s`, if the user has not seen it by then.
    UNSEEN = "unseen"
    # At once.
    ALWAYS = "always"


IN_APP = "in_app"
WEB_PUSH = "web_push"
WEBHOOK = "webhook"


@dataclass(frozen=True, slots=True)
class Category:
    """The rules of one category. `digest_s` > 0: notifications of so many seconds are delivered as one.

    `urgency`: RFC 8030 section 5.3. `webhook`: the URL that receives notifications not seen after `push_after_s`;
    empty: there is none.
    """

    label: str = ""
    required: bool = False
    digest_s: int = 0
    web_push: PushRule = PushRule.NEVER
    push_after_s: int = 0
    urgency: str = "normal"
    webhook: str = ""

    @property
    def deliveries(self) -> tuple[str, ...]:
        """The delivery methods beside the inbox."""
        pushes = () if self.web_push is PushRule.NEVER else (WEB_PUSH,)
        return (*pushes, WEBHOOK) if self.webhook else pushes

    @property
    def methods(self) -> tuple[str, ...]:
        """All delivery methods: what preferences are about."""
        return (IN_APP, *self.deliveries)

    def due_ms(self, method: str, now_ms: int) -> int:
        """When a method delivers a notification that is new now."""
        is_at_once = method == WEB_PUSH and self.web_push is PushRule.ALWAYS
        return now_ms if is_at_once else now_ms + self.push_after_s * 1000


class State(StrEnum):
    """What became of a notification."""

    STORED = "stored"
    # The user has switched its category off.
    SUPPRESSED = "suppressed"
    # It had expired before it arrived.
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Stored:
    """The result for one notification. `duplicate`: it was stored earlier, under the same `caller_id`."""

    caller_id: str
    state: State = State.STORED
    duplicate: bool = False
