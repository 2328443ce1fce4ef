"""Events that the hub itself sends to a client, such as `tidings:ready` and `tidings:gap`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from tidings.wire.cursor import Cursor
from tidings_hub.core.frame import HubEvent
from tidings_hub.core.local_presence import split_answers

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def hub_event(event: str, data: Mapping[str, object], *, cursor: str | None = None) -> HubEvent:
    """The event with its data as JSON. `cursor` becomes the client's offset; without one it keeps its own."""
    return HubEvent(event, _encode(data).encode(), cursor=cursor)


def gap_event(channels: Iterable[str], position: Cursor) -> HubEvent:
    """`tidings:gap`: publications of these channels are lost. The client continues at `position`."""
    gap = {"cursor": str(position)} | split_answers({name: {"recovered": False} for name in channels})
    return hub_event("tidings:gap", gap, cursor=str(position))
