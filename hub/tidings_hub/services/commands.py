"""Commands to all nodes: this node executes its part and replies (PROTOCOL.md section 7).

The broker's reader calls `on_command`, so that never waits. Commands that wait for the broker run in a worker
greenlet, and so does every reply.
"""

from __future__ import annotations

import heapq
import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from tidings.errors import BadRequest, CallerError, TidingsError
from tidings.wire.channels import user_channel
from tidings.wire.control import Command, NodeReplies, command_result
from tidings.wire.cursor import Cursor
from tidings.wire.presence import presence_of
from tidings_hub.core.pending_grants import Grant, PendingGrants
from tidings_hub.core.revocations.revoked import is_revocation, token_key, user_key
from tidings_hub.core.sessions import Session, State
from tidings_hub.services.client_connection import Connection
from tidings_hub.services.hub import Hub
from tidings_hub.services.hub_event import hub_event
from tidings_hub.services.subscribe import abandon, go_live, subscribe

logger = logging.getLogger("tidings.control")

# Seconds between two looks at a connection whose handshake is not complete.
_HANDSHAKE_POLL_S = 0.02
_LIST_MAX = 1_001
# What the fields of a malformed message raise: OverflowError an infinite number, RecursionError a deep one as text.
_MALFORMED = (KeyError, TypeError, ValueError, OverflowError, RecursionError)
# The name of the list that gets the replies.
_REPLY_TO = re.compile(r"[!-~]{0,200}\Z")

Submit = Callable[..., bool]
Rows = list[dict[str, object]]
CommandHandler = Callable[[Mapping[str, Any]], Mapping[str, object]]


class Commands:
    """Sends commands to all nodes, and executes those that arrive.

    `submit` runs a function in a worker greenlet; it returns False if no worker is free.
    """

    def __init__(self, hub: Hub, submit: Submit) -> None:
        self._hub = hub
        self._submit = submit
        self._node = hub.settings.node_id
        self._grants = PendingGrants()
        # These never wait; the reader calls them.
        self._immediate: dict[str, CommandHandler] = {
            "disconnect": self._disconnect,
            "report": self._report,
            "replace": self._replace,
            "revoke": self._revoke,
            "unsubscribe": self._unsubscribe,
        }
        # These wait for the broker, or take long; a worker calls them.
        self._deferred: dict[str, CommandHandler] = {
            "list": self._list,
            "read_revocations": self._read_revocations,
        }

    def request(self, command: Command) -> NodeReplies:
        """Send a command to every node, including this one. Waits up to `control_timeout_s` for their replies.

        Raises:
            Unavailable: the broker did not accept the command.
        """
        return self._hub.broker.run_command(command, timeout_s=self._hub.settings.control_timeout_s)

    def on_command(self, message: Mapping[str, object]) -> None:
        """Execute a control message of a node or an emitter. Never waits. A malformed message is logged and ignored."""
        name, reply_to = message.get("do"), message.get("reply") or ""
        try:
            if not isinstance(reply_to, str) or not _REPLY_TO.match(reply_to):
                raise BadRequest("reply is no name of a list")
            if name in self._immediate:
                self._reply(message, self._immediate[str(name)](message))
            elif name in self._deferred:
                self._run_in_worker(self._run_deferred, message, self._deferred[str(name)])
            elif name == "subscribe":
                self._run_grant(message)
            else:
                raise BadRequest("unknown command")
        except (CallerError, *_MALFORMED):
            logger.warning("a malformed control message was ignored")

    def _run_grant(self, message: Mapping[str, object]) -> None:
        # An `unsubscribe` may arrive before a worker is free.
        grant = self._grants.begin(str(message["user"]), str(message["channel"]))
        if not self._run_in_worker(self._run_deferred, message, partial(self._subscribe, grant)):
            self._grants.end(grant)

    def _run_deferred(self, message: Mapping[str, object], handler: CommandHandler) -> None:
        try:
            reply = handler(message)
        except TidingsError as error:
            reply = {"error": error.to_wire()}
        except _MALFORMED:
            logger.warning("a malformed control message was ignored")
            return
        if message.get("reply"):
            self._send_reply(message, reply)

    def _reply(self, message: Mapping[str, object], reply: Mapping[str, object]) -> None:
        if message.get("reply"):
            self._run_in_worker(self._send_reply, message, reply)

    def _run_in_worker(self, function: Callable[..., None], *arguments: object) -> bool:
        is_run = self._submit(function, *arguments)
        # If not, the sender of the command gets this node's name in `missing`.
        self._hub.metrics.control_unanswered += not is_run
        return is_run

    def _send_reply(self, message: Mapping[str, object], reply: Mapping[str, object]) -> None:
        if message["do"] == "revoke":
            # The caller may count on the file when it has the reply.
            self._hub.revocations.flush(timeout_s=self._hub.settings.control_timeout_s / 2)
        try:
            self._hub.broker.reply(str(message["reply"]), {"node": self._node, **reply})
        except TidingsError as error:
            self._hub.metrics.control_unanswered += 1
            logger.warning("a command was executed, but the reply could not be sent: %s", error)

    # Immediate commands, in the reader

    def _disconnect(self, message: Mapping[str, Any]) -> Mapping[str, object]:
        user, connection_id = _exactly_one(message, "user", "connection")
        hub = self._hub
        sessions = (
            list(hub.open_sessions.of_user(user))
            if user
            else [session for session in hub.sessions() if session.id == connection_id]
        )
        return {"connections": hub.disconnect_all(sessions, "disconnected", "a backend ended this connection")}

    def _revoke(self, message: Mapping[str, Any]) -> Mapping[str, object]:
        user, jti = _exactly_one(message, "user", "jti")
        key, until_s = user_key(user) if user else token_key(jti), message["until_s"]
        if not is_revocation(key, until_s):
            raise BadRequest("until_s is a number")
        hub = self._hub
        hub.revocations.add(key, float(until_s))
        sessions = (
            list(hub.open_sessions.of_user(user))
            if user
            else [session for session in hub.sessions() if session.claims.jti == jti]
        )
        return {"connections": hub.end_revoked(sessions)}

    def _replace(self, message: Mapping[str, Any]) -> Mapping[str, object]:
        return {"connections": self._hub.session_store.end_replaced_here(list(message["connections"]))}

    def _unsubscribe(self, message: Mapping[str, Any]) -> Mapping[str, object]:
        user, channel = str(message["user"]), str(message["channel"])
        hub, count = self._hub, 0
        self._grants.withdraw(user, channel)
        for session in list(hub.open_sessions.of_user(user)):
            session.granted -= {channel}
            if channel in session.channels and channel != user_channel(user):
                hub.unsubscribe(session, [channel])
                hub.send(session.connection, hub_event("tidings:unsubscribed", {"channels": [channel]}))
                count += 1
        return {"connections": count}

    def _report(self, message: Mapping[str, Any]) -> Mapping[str, object]:
        id_, channel, cursor = (str(message.get(name) or "") for name in ("id", "channel", "cursor"))
        reports, now_s = self._hub.deliveries.reports, time.monotonic()
        # The report of the channel and one more: if the request names no channel, two of them make it ambiguous.
        known = sorted(reports.find(id_), key=lambda report: report.channel != channel)[:2]
        has_arrived = any(report.arrived and (report.channel, report.cursor) == (channel, cursor) for report in known)
        rows = [
            {
                "channel": report.channel,
                "cursor": report.cursor,
                "recipients": report.recipients,
                "acks": len(report.acked),
                "settled": reports.is_settled(report, now_s=now_s),
            }
            for report in known
        ]
        is_behind = bool(cursor) and not has_arrived and self._is_behind(channel, Cursor.parse(cursor))
        return {"found": rows, "behind": is_behind}

    def _is_behind(self, channel: str, published: Cursor) -> bool:
        """Whether the channel has subscribers here, and this node has not processed the sequence up to `published`."""
        if channel not in self._hub.subscriptions:
            return False
        position = self._hub.broker.position
        seq = None if position is None else position.seq_in(published.epoch)
        # A publication of another epoch will never arrive.
        return position is None or (seq is not None and seq < published.seq)

    # Deferred commands, in a worker

    def _subscribe(self, grant: Grant, _message: Mapping[str, Any]) -> Mapping[str, object]:
        try:
            self._hub.access.rule(grant.channel)
            end_s = time.monotonic() + self._hub.settings.control_timeout_s
            sessions = self._hub.open_sessions.of_user(grant.user)
            outcomes = [self._subscribe_one(session, grant, end_s) for session in list(sessions)]
        finally:
            self._grants.end(grant)
        return {"connections": outcomes.count(True), "refused": outcomes.count(False)}

    def _subscribe_one(self, session: Session[Connection], grant: Grant, end_s: float) -> bool | None:
        """Whether the session is subscribed to the channel now; None: it has closed, or must not be any more."""
        hub, channel = self._hub, grant.channel
        # Before `tidings:ready`, the client's cursor is the one that it reconnected with. A publication of this
        # channel would advance the cursor past publications that the client is still to receive.
        while user_channel(session.user) not in session.channels:
            if session.state is State.CLOSED:
                return None
            if time.monotonic() > end_s:
                return False
            time.sleep(_HANDSHAKE_POLL_S)
        if grant.is_withdrawn():
            return None
        session.granted |= {channel}
        if channel in session.channels:
            return True
        pending = subscribe(hub, session, [channel], None)
        if "error" in pending.answers[channel]:
            session.granted -= {channel}
            return False
        if grant.is_withdrawn():
            abandon(hub, pending)
            hub.session_store.on_unsubscribed(session, [channel])
            return None
        cursor = str(pending.cursor)
        data = {"cursor": cursor, "channels": pending.final_answers()}
        go_live(hub, session, pending, hub_event("tidings:subscribed", data, cursor=cursor))
        return None if session.state is State.CLOSED else True

    def _read_revocations(self, _message: Mapping[str, Any]) -> Mapping[str, object]:
        return {"connections": self._hub.revocations.sync()}

    def _list(self, message: Mapping[str, Any]) -> Mapping[str, object]:
        limit, after = int(message["limit"]), message.get("after")
        key, rows = ("channel", self.channels()) if message["what"] == "channels" else ("connection", self.sessions())
        rows_after = (row for row in rows if after is None or str(row[key]) > str(after))
        return {"rows": heapq.nsmallest(min(limit, _LIST_MAX), rows_after, key=lambda row: str(row[key]))}

    def channels(self) -> Iterable[dict[str, object]]:
        """The channels of this node and how many connections each has."""
        subscriptions = self._hub.subscriptions
        names = [name for name in list(subscriptions.names()) if presence_of(name) is None]
        return [{"channel": name, "connections": subscriptions.count(name)} for name in names]

    def sessions(self) -> Iterable[dict[str, object]]:
        """The sessions of this node."""
        now_s = self._hub.wall_s()
        return [
            {
                **session.describe(now_s),
                "transport": session.connection.transport,
                "node": self._node,
            }
            for session in list(self._hub.sessions())
        ]


def merge_rows(command: Command, replies: NodeReplies, *, key: str) -> Rows:
    """The first rows of all nodes, sorted by `key`. A channel's connections are added up.

    Every node replies with its own first rows, so the first rows of all are complete.

    Raises:
        TidingsError: the error that a node replied with.
    """
    command_result(replies)
    merged: dict[str, dict[str, object]] = {}
    for reply in replies.replies:
        for row in reply.get("rows", ()):
            known = merged.get(row[key])
            if known is None:
                merged[row[key]] = dict(row)
            elif key == "channel":
                known["connections"] = int(str(known["connections"])) + int(row["connections"])
    limit = int(command.arguments["limit"])
    return [merged[name] for name in sorted(merged)[:limit]]


def _exactly_one(message: Mapping[str, Any], *names: str) -> tuple[str, ...]:
    """The values of these fields of a message: one is a non-empty string, the others are empty.

    Raises:
        BadRequest: none or several are set, or one is not a string.
    """
    values = tuple(message.get(name) or "" for name in names)
    if sum(1 for value in values if value) != 1 or not all(isinstance(value, str) for value in values):
        raise BadRequest(f"exactly one of {' and '.join(names)}")
    return values
