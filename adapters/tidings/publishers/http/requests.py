"""GET requests to a hub's HTTP API, and what its responses contain (PROTOCOL.md section 8). No I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from tidings.errors import Internal
from tidings.wire.control import History, NodeRecord, read_node_record
from tidings.wire.cursor import Cursor
from tidings.wire.presence import Presence

NODES_PATH = "/api/nodes"
# Enough for a page of 10,000 publications; a response of another server may be larger.
PAGE_MAX_BYTES = 64 * 1024 * 1024
_NOT_A_HUB = "the response is not a hub's; check the URL"


def history_path(channel: str, since: Cursor | None, limit: int) -> str:
    """The path of the first `limit` publications after `since`; without `since` of the last ones."""
    query = {"limit": str(limit), **({"newest": "true"} if since is None else {"since": str(since)})}
    return f"/api/channels/{quote(channel, safe='')}/history?{urlencode(query)}"


def read_history(response: Mapping[str, Any]) -> History:
    """The history page in a response.

    Raises:
        Internal: there is none.
    """
    match response:
        case {"cursor": str(cursor), "publications": list(publications)}:
            return History(cursor, publications)
    raise Internal(_NOT_A_HUB)


def read_nodes(response: Mapping[str, Any]) -> list[NodeRecord]:
    """The nodes in a response.

    Raises:
        Internal: there are none.
    """
    match response:
        case {"nodes": list(nodes)}:
            return [read_node_record(node) for node in nodes]
    raise Internal(_NOT_A_HUB)


def presence_path(channel: str, limit: int) -> str:
    """The path of a channel's presence."""
    return f"/api/channels/{quote(channel, safe='')}/presence?limit={limit}"


def read_presence(response: Mapping[str, Any]) -> Presence:
    """The presence in a response.

    Raises:
        Internal: there is none.
    """
    match response:
        case {"cursor": str(cursor), "count": int(count), "members": None}:
            return Presence(cursor, count, None)
        case {"cursor": str(cursor), "count": int(count), "members": list(members)}:
            return Presence(cursor, count, dict(map(_user_and_info, members)))
    raise Internal(_NOT_A_HUB)


def _user_and_info(member: object) -> tuple[str, bytes]:
    match member:
        case {"user": str(user), "info": info}:
            return user, json.dumps(info).encode()
    raise Internal(_NOT_A_HUB)
