"""Questions to a hub over its HTTP API, and what its answers mean (PROTOCOL.md section 8). No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from tidings.errors import Internal
from tidings.wire.control import History, NodeRecord, read_node
from tidings.wire.cursor import Cursor

NODES_PATH = "/api/nodes"
# A page of 10,000 publications, and not what some other server might send.
PAGE_MAX_BYTES = 64 * 1024 * 1024
_STRANGE = "the answer is not a hub's; check the URL"


def history_path(channel: str, since: Cursor | None, limit: int) -> str:
    """After `since` the first `limit` publications, without it the last ones."""
    asked = {"limit": str(limit), **({"newest": "true"} if since is None else {"since": str(since)})}
    return f"/api/channels/{quote(channel, safe='')}/history?{urlencode(asked)}"


def read_history(said: Mapping[str, Any]) -> History:
    """The page in an answer.

    Raises:
        Internal: there is none.
    """
    match said:
        case {"cursor": str(cursor), "publications": list(publications)}:
            return History(cursor, publications)
    raise Internal(_STRANGE)


def read_nodes(said: Mapping[str, Any]) -> list[NodeRecord]:
    """The nodes in an answer.

    Raises:
        Internal: there are none.
    """
    match said:
        case {"nodes": list(nodes)}:
            return [read_node(node) for node in nodes]
    raise Internal(_STRANGE)
