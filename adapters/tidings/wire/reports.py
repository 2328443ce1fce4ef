"""Delivery reports: how many connections received a publication, and how many acknowledged it. No I/O.

Every node keeps its own counters for a while; a query adds them up (PROTOCOL.md section 7).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from tidings.errors import BadRequest, Internal, NotFound, TimedOut
from tidings.wire.control import Command, NodeReplies, command_result
from tidings.wire.cursor import Cursor


@dataclass(frozen=True, slots=True)
class Count:
    """The counters of one node: connections that the publication was written to, and acknowledgements."""

    recipients: int
    acks: int


@dataclass(frozen=True, slots=True)
class Report:
    """The delivery of a publication so far: per node that replied, and altogether.

    An acknowledgement means that a handler of the client has run, and nothing more. `missing`: nodes that are alive and
    did not reply. `settled`: False while the publication has not arrived at a node with subscribers, or while
    acknowledgements are expected.
    """

    id: str
    channel: str
    cursor: str
    recipients: int
    acks: int
    nodes: Mapping[str, Count]
    missing: tuple[str, ...] = ()
    settled: bool = True


@dataclass(frozen=True, slots=True)
class ReportQuery:
    """The publication to report on: its id, and its channel and cursor if they are known."""

    id: str
    channel: str = ""
    cursor: str = ""

    def to_command(self) -> Command:
        """The command that requests the report from every node."""
        arguments = {"id": self.id, "channel": self.channel, "cursor": self.cursor}
        return Command("report", {name: value for name, value in arguments.items() if value})

    def path(self) -> str:
        """Path and query of the same request over the HTTP API."""
        query = f"?{urlencode({'channel': self.channel})}" if self.channel else ""
        return f"/api/publications/{quote(self.id, safe='')}{query}"


def own_position(cursor: str) -> str:
    """A publication's own position: the first part of its cursor. The other parts are positions in other buckets."""
    position = Cursor.parse(cursor)
    return str(Cursor(position.epoch, position.seq))


def locate(query: ReportQuery, replies: NodeReplies) -> ReportQuery:
    """`query` with the channel and cursor that the nodes know.

    Raises:
        NotFound: no node has a report on it.
        TimedOut: no node that replied has one, and others did not reply.
        BadRequest: the publication is in several channels, and the query names none.
    """
    cursors: dict[str, str] = {}
    for _, channel, cursor, _ in _rows(replies):
        known = cursors.get(channel)
        if query.channel not in {"", channel}:
            continue
        # The id was used again after its idempotency window: the later publication counts.
        if known is None or Cursor.parse(known).seq < Cursor.parse(cursor).seq:
            cursors[channel] = cursor
    if not cursors and replies.missing:
        raise TimedOut(
            f"no reply from {', '.join(replies.missing)}, and no other node knows the publication {query.id}"
        )
    if not cursors:
        raise NotFound(
            f"no report on the publication {query.id}: no client was subscribed to its channel, it did not request a"
            " report, or it is too old (report_keep_s)"
        )
    if len(cursors) > 1:
        raise _ambiguous(query)
    ((channel, cursor),) = cursors.items()
    return ReportQuery(query.id, channel, cursor)


def require_unique(query: ReportQuery, replies: NodeReplies) -> None:
    """Check that no node knows this id in another channel.

    Raises:
        BadRequest: a node does; the query must name a channel.
    """
    if any(channel != query.channel for _, channel, _, _ in _rows(replies)):
        raise _ambiguous(query)


def merge_reports(query: ReportQuery, replies: NodeReplies) -> Report:
    """The report on a publication whose channel and cursor are known.

    Raises:
        TidingsError: the error that a node replied with.
    """
    command_result(replies)
    nodes = {str(reply.get("node")): Count(0, 0) for reply in replies.replies}
    settled = not any(reply.get("behind") for reply in replies.replies)
    for node, channel, cursor, row in _rows(replies):
        if (channel, cursor) == (query.channel, query.cursor):
            nodes[node] = Count(_int_or_zero(row.get("recipients")), _int_or_zero(row.get("acks")))
            settled = settled and bool(row.get("settled", True))
    recipients = sum(count.recipients for count in nodes.values())
    acks = sum(count.acks for count in nodes.values())
    return Report(query.id, query.channel, query.cursor, recipients, acks, nodes, replies.missing, settled=settled)


def read_report(body: Mapping[str, Any]) -> Report:
    """The report in a response of the HTTP API.

    Raises:
        Internal: the response is not a hub's.
    """
    match body:
        case {
            "id": str(id_),
            "channel": str(channel),
            "cursor": str(cursor),
            "recipients": int(recipients),
            "acks": int(acks),
            "nodes": dict(nodes),
            "missing": list(missing),
        }:
            counts = {
                str(node): Count(_int_or_zero(count.get("recipients")), _int_or_zero(count.get("acks")))
                for node, count in nodes.items()
                if isinstance(count, Mapping)
            }
            return Report(
                id_, channel, cursor, recipients, acks, counts, tuple(map(str, missing)), bool(body.get("settled"))
            )
    raise Internal("the response is not a hub's; check the URL")


def _ambiguous(query: ReportQuery) -> BadRequest:
    return BadRequest(f"{query.id} was published in several channels; choose one with ?channel=")


def _rows(replies: NodeReplies) -> Iterator[tuple[str, str, str, Mapping[str, Any]]]:
    """Node, channel, cursor and counters of every report in the replies."""
    for reply in replies.replies:
        for row in reply.get("found", ()):
            match row:
                case {"channel": str(channel), "cursor": str(cursor)}:
                    yield str(reply.get("node")), channel, cursor, row


def _int_or_zero(value: object) -> int:
    return value if type(value) is int else 0
