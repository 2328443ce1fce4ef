"""What an action of a user changes in a notification."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from tidings.errors import BadRequest, TooLarge
from tidings_notifications.core.ids import is_id
from tidings_notifications.core.notification import Place

IDS_MAX = 1000


class Action(StrEnum):
    """What a user can do with notifications."""

    SEEN = "seen"
    READ = "read"
    UNREAD = "unread"
    ARCHIVE = "archive"
    UNARCHIVE = "unarchive"


# Actions that can be applied to the whole inbox.
FOR_ALL = (Action.SEEN, Action.READ, Action.ARCHIVE)


@dataclass(frozen=True, slots=True)
class ItemState:
    """The state of one visible notification. Times are unix milliseconds."""

    id: str
    place: Place
    seen_ms: int | None
    read_ms: int | None
    archived_ms: int | None

    def to_wire(self) -> dict[str, object]:
        """One entry of `changed` as PROTOCOL.md describes it."""
        return {"id": self.id, "seen_at": self.seen_ms, "read_at": self.read_ms, "archived_at": self.archived_ms}


def marked(state: ItemState, action: Action, now_ms: int) -> ItemState:
    """The state after an action. It is equal to the one before if the action changes nothing.

    A read notification has also been seen. `unread` leaves it seen.
    """
    match action:
        case Action.SEEN if state.seen_ms is None:
            return replace(state, seen_ms=now_ms)
        case Action.READ if state.read_ms is None:
            return replace(state, read_ms=now_ms, seen_ms=now_ms if state.seen_ms is None else state.seen_ms)
        case Action.UNREAD if state.read_ms is not None:
            return replace(state, read_ms=None)
        case Action.ARCHIVE if state.place == Place.INBOX:
            return replace(state, place=Place.ARCHIVED, archived_ms=now_ms)
        case Action.UNARCHIVE if state.place == Place.ARCHIVED:
            return replace(state, place=Place.INBOX, archived_ms=None)
        case _:
            return state


def check_action(name: object, *, for_all: bool) -> Action:
    """The action of this name.

    Raises:
        BadRequest: there is none, or it cannot be applied to the whole inbox.
    """
    allowed = FOR_ALL if for_all else tuple(Action)
    for action in allowed:
        if name == action.value:
            return action
    kind = "an action for all notifications" if for_all else "an action"
    raise BadRequest(f"not {kind}: {name!a:.60}; use {', '.join(allowed)}")


def check_ids(ids: object) -> list[str]:
    """The texts of a list, without repetitions.

    Raises:
        BadRequest: not a list of texts. TooLarge: more than `IDS_MAX`.
    """
    if not isinstance(ids, list) or not ids or not all(isinstance(text, str) for text in ids):
        raise BadRequest("ids must be a list of at least one id, each of them a text")
    if len(ids) > IDS_MAX:
        raise TooLarge(f"{len(ids):,} ids are more than {IDS_MAX:,}; send several requests")
    return list(dict.fromkeys(ids))


def split_ids(ids: object) -> tuple[list[str], list[str]]:
    """A checked list of ids: those that can be ids of notifications, and the others.

    Raises:
        BadRequest, TooLarge: see `check_ids`.
    """
    texts = check_ids(ids)
    return [text for text in texts if is_id(text)], [text for text in texts if not is_id(text)]
