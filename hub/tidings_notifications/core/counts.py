"""The counts of an inbox, and how a change of one notification changes them."""

from __future__ import annotations

from dataclasses import dataclass

from tidings_notifications.core.notification import Place


@dataclass(slots=True)
class InboxCounts:
    """One user's row in the table of inboxes. `version` grows by one with each change of the inbox."""

    user_id: str
    unseen: int = 0
    unread: int = 0
    version: int = 0

    def change(self, *, unseen: int, unread: int) -> None:
        """Add to the counts."""
        self.unseen += unseen
        self.unread += unread

    def next_version(self) -> int:
        """The version after one more change."""
        self.version += 1
        return self.version

    def to_wire(self) -> dict[str, int]:
        """`counts` as PROTOCOL.md describes it."""
        return {"unseen": self.unseen, "unread": self.unread}


def counted(place: Place, seen_ms: int | None, read_ms: int | None) -> tuple[int, int]:
    """What one notification adds to `unseen` and `unread`. Only what is in the inbox counts."""
    is_listed = place == Place.INBOX
    return int(is_listed and seen_ms is None), int(is_listed and read_ms is None)
