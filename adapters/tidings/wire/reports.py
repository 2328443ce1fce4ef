"""What became of a publication that asked to be told: whom it reached, and who acknowledged it. No I/O.

Every node keeps its own part for a while; who asks adds the parts up (PROTOCOL.md section 7).
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
    """On one node: how many connections it was written to, and how many of them have acknowledged it."""

    recipients: int
    acks: int


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a publication so far, on all nodes that answered and together.

    An acknowledgement says that a handler of the client ran, and nothing beyond. `missing`: nodes that live and
    did not answer. `settled`: nothing more is expected; False: it has not arrived at a node with subscribers yet,
    or acknowledgements are still awaited.
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
    """Which publication: its id, and where it is as far as that is known."""

    id: str
    channel: str = ""
    cursor: str = ""

    def to_command(self) -> Command:
        """The question to every node."""
        about = {"id": self.id, "channel": self.channel, "cursor": self.cursor}
        return Command("report", {name: value for name, value in about.items() if value})

    def path(self) -> str:
        """The same question over the HTTP API."""
        query = f"?{urlencode({'channel': self.channel})}" if self.channel else ""
        return f"/api/publications/{quote(self.id, safe='')}{query}"


def own_position(cursor: str) -> str:
    """A publication's own place in its cursor: what follows is where a node was in the other buckets."""
    at = Cursor.parse(cursor)
    return str(Cursor(at.epoch, at.seq))


def locate(query: ReportQuery, replies: NodeReplies) -> ReportQuery:
    """The publication with the channel and cursor that the nodes know.

    Raises:
        NotFound: no node knows it. TimedOut: none that answered, and another one lives.
        BadRequest: it is in several channels, and none was named.
    """
    places: dict[str, str] = {}
    for _, channel, cursor, _ in _found(replies):
        known = places.get(channel)
        if query.channel not in {"", channel}:
            continue
        # The same id again, after the broker had forgotten it: the later one counts.
        if known is None or Cursor.parse(known).seq < Cursor.parse(cursor).seq:
            places[channel] = cursor
    if not places and replies.missing:
        raise TimedOut(f"no word of {', '.join(replies.missing)}, and nobody else knows the publication {query.id}")
    if not places:
        raise NotFound(
            f"no report on the publication {query.id}: it never asked for one, or too long ago (report_keep_s)"
        )
    if len(places) > 1:
        raise _ambiguous(query)
    ((channel, cursor),) = places.items()
    return ReportQuery(query.id, channel, cursor)


def require_unique(query: ReportQuery, replies: NodeReplies) -> None:
    """Returns if no node knows this id in another channel.

    Raises:
        BadRequest: one does; which of them is meant has to be said.
    """
    if any(channel != query.channel for _, channel, _, _ in _found(replies)):
        raise _ambiguous(query)


def merge_reports(query: ReportQuery, replies: NodeReplies) -> Report:
    """The report on a publication whose place is known.

    Raises:
        TidingsError: what a node said that could not answer.
    """
    command_result(replies)
    nodes = {str(said.get("node")): Count(0, 0) for said in replies.replies}
    settled = not any(said.get("behind") for said in replies.replies)
    for node, channel, cursor, one in _found(replies):
        if (channel, cursor) == (query.channel, query.cursor):
            nodes[node] = Count(_whole(one.get("recipients")), _whole(one.get("acks")))
            settled = settled and bool(one.get("settled", True))
    recipients = sum(count.recipients for count in nodes.values())
    acks = sum(count.acks for count in nodes.values())
    return Report(query.id, query.channel, query.cursor, recipients, acks, nodes, replies.missing, settled=settled)


def read_report(body: Mapping[str, Any]) -> Report:
    """The HTTP API's answer; `settled` is what its status says.

    Raises:
        Internal: it is none.
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
                str(node): Count(_whole(one.get("recipients")), _whole(one.get("acks")))
                for node, one in nodes.items()
                if isinstance(one, Mapping)
            }
            return Report(
                id_, channel, cursor, recipients, acks, counts, tuple(map(str, missing)), bool(body.get("settled"))
            )
    raise Internal("the answer is not a hub's; check the URL")


def _ambiguous(query: ReportQuery) -> BadRequest:
    return BadRequest(f"{query.id} was published in several channels; say which one with ?channel=")


def _found(answers: NodeReplies) -> Iterator[tuple[str, str, str, Mapping[str, Any]]]:
    """Node, channel, cursor and the rest of all that was found."""
    for said in answers.replies:
        for one in said.get("found", ()):
            match one:
                case {"channel": str(channel), "cursor": str(cursor)}:
                    yield str(said.get("node")), channel, cursor, one


def _whole(value: object) -> int:
    return value if type(value) is int else 0
