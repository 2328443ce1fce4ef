"""Orders to all nodes, as this node hears them: it does its part and answers (PROTOCOL.md section 7).

`heard` is called by the broker's reader and never waits. What has to wait for the broker, an answer too,
runs in a worker greenlet.
"""

from __future__ import annotations

import heapq
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tidings.errors import BadRequest, CallerError, TidingsError
from tidings.wire.channels import user_channel
from tidings.wire.control import Command, NodeReplies, command_result
from tidings.wire.cursor import Cursor
from tidings.wire.presence import presence_of
from tidings_hub.core.access import token_key, user_key
from tidings_hub.core.sessions import Session, State
from tidings_hub.services.connection import Connection
from tidings_hub.services.hub import Hub
from tidings_hub.services.hub_event import hub_event
from tidings_hub.services.subscribe import go_live, subscribe

logger = logging.getLogger("tidings.wire.control")

# How often a connection that is just being opened is looked at again.
_LOOK_S = 0.02
_LIST_MAX = 1_001

Submit = Callable[..., bool]
Rows = list[dict[str, object]]


class Commands:
    """This node's part in what is asked of all nodes. `submit` runs something in a worker; False: it will not."""

    def __init__(self, hub: Hub, submit: Submit) -> None:
        self._hub = hub
        self._submit = submit
        self._node = hub.settings.node_id
        self._at_once: dict[str, Callable[[Mapping[str, Any]], Mapping[str, object]]] = {
            "disconnect": self._disconnect,
            "report": self._report,
            "replace": self._replace,
            "revoke": self._revoke,
            "unsubscribe": self._unsubscribe,
        }
        self._later: dict[str, Callable[[Mapping[str, Any]], Mapping[str, object]]] = {
            "subscribe": self._subscribe,
            "list": self._list,
        }

    def request(self, command: Command) -> NodeReplies:
        """Have every node, this one included, do something. Waits for the broker and for the nodes' answers.

        Raises:
            Unavailable: the broker did not take it.
        """
        return self._hub.broker.run_command(command, timeout_s=self._hub.settings.control_timeout_s)

    def on_command(self, message: Mapping[str, object]) -> None:
        """Do what a node or an emitter asked all nodes to do. Never waits, never raises for what a message holds."""
        do = message.get("do")
        try:
            if do in self._at_once:
                self._reply(message, self._at_once[str(do)](message))
            elif do in self._later:
                self._work(self._do_later, message)
            else:
                raise BadRequest("no such order")
        except (CallerError, KeyError, TypeError, ValueError):
            logger.warning("a control message of an unknown form was ignored")

    def _do_later(self, message: Mapping[str, object]) -> None:
        try:
            said = self._later[str(message["do"])](message)
        except TidingsError as error:
            said = {"error": error.to_wire()}
        except (KeyError, TypeError, ValueError):
            logger.warning("a control message of an unknown form was ignored")
            return
        self._answer(message, said)

    def _reply(self, message: Mapping[str, object], said: Mapping[str, object]) -> None:
        if message.get("reply"):
            self._work(self._answer, message, said)

    def _work(self, run: Callable[..., None], *arguments: object) -> None:
        if not self._submit(run, *arguments):
            # Who asked is told that this node did not answer.
            self._hub.metrics.control_unanswered += 1

    def _answer(self, message: Mapping[str, object], said: Mapping[str, object]) -> None:
        try:
            self._hub.broker.reply(str(message["reply"]), {"node": self._node, **said})
        except TidingsError as error:
            self._hub.metrics.control_unanswered += 1
            logger.warning("an order was carried out, and nobody could be told: %s", error)

    # At once, in the reader

    def _disconnect(self, message: Mapping[str, Any]) -> Mapping[str, object]:
        user, id_ = _text(message, "user", "connection")
        hub = self._hub
        chosen = _of_user(hub, user) if user else [each for each in hub.sessions() if each.id == id_]
        return {"connections": hub.disconnect_all(chosen, "disconnected", "a backend ended this connection")}

    def _revoke(self, message: Mapping[str, Any]) -> Mapping[str, object]:
        user, jti = _text(message, "user", "jti")
        until_s = message["until_s"]
        if type(until_s) not in (int, float):
            raise BadRequest("until_s is a number")
        self._hub.revocations.add(user_key(user) if user else token_key(jti), float(until_s))
        return {"connections": self._hub.enforce_revocations()}

    def _replace(self, message: Mapping[str, Any]) -> Mapping[str, object]:
        return {"connections": self._hub.session_store.end_replaced_here(list(message["connections"]))}

    def _unsubscribe(self, message: Mapping[str, Any]) -> Mapping[str, object]:
        user, channel = str(message["user"]), str(message["channel"])
        hub, count = self._hub, 0
        for session in _of_user(hub, user):
            session.granted -= {channel}
            if channel in session.channels and channel != user_channel(user):
                hub.unsubscribe(session, [channel])
                hub.send(session.connection, hub_event("tidings:unsubscribed", {"channels": [channel]}))
                count += 1
        return {"connections": count}

    def _report(self, message: Mapping[str, Any]) -> Mapping[str, object]:
        id_, channel, cursor = (str(message.get(name) or "") for name in ("id", "channel", "cursor"))
        reports, now_s = self._hub.deliveries.reports, time.monotonic()
        # That of the channel, and one more: who asked without naming one has to learn that there are several.
        known = sorted(reports.find(id_), key=lambda each: each.channel != channel)[:2]
        arrived = any(each.arrived and (each.channel, each.cursor) == (channel, cursor) for each in known)
        found = [
            {
                "channel": each.channel,
                "cursor": each.cursor,
                "recipients": each.recipients,
                "acks": len(each.acked),
                "settled": reports.is_settled(each, now_s=now_s),
            }
            for each in known
        ]
        return {"found": found, "behind": bool(cursor) and not arrived and self._behind(channel, Cursor.parse(cursor))}

    def _behind(self, channel: str, place: Cursor) -> bool:
        """Whether somebody here listens to the channel, and what was published at `place` may be yet to come."""
        if channel not in self._hub.subscriptions:
            return False
        position = self._hub.broker.position
        seq = None if position is None else position.seq_in(place.epoch)
        # Of another epoch it will never come.
        return position is None or (seq is not None and seq < place.seq)

    # In a worker

    def _subscribe(self, message: Mapping[str, Any]) -> Mapping[str, object]:
        user, channel = str(message["user"]), str(message["channel"])
        self._hub.access.rule(channel)
        end_s = time.monotonic() + self._hub.settings.control_timeout_s
        outcomes = [self._subscribe_one(session, channel, end_s) for session in _of_user(self._hub, user)]
        return {"connections": outcomes.count(True), "refused": outcomes.count(False)}

    def _subscribe_one(self, session: Session[Connection], channel: str, end_s: float) -> bool | None:
        """Whether the session has the channel now; None: it has closed."""
        hub = self._hub
        # Before `tidings:ready` a client's cursor is still that of its return: a publication of this channel
        # would carry it past what it has yet to be given.
        while user_channel(session.user) not in session.channels:
            if session.state is State.CLOSED:
                return None
            if time.monotonic() > end_s:
                return False
            time.sleep(_LOOK_S)
        session.granted |= {channel}
        if channel in session.channels:
            return True
        joined = subscribe(hub, session, [channel], None)
        if "error" in joined.answers[channel]:
            session.granted -= {channel}
            return False
        cursor = str(joined.cursor)
        told = hub_event("tidings:subscribed", {"cursor": cursor, "channels": joined.final_answers()}, cursor=cursor)
        go_live(hub, session, joined, told)
        return None if session.state is State.CLOSED else True

    def _list(self, message: Mapping[str, Any]) -> Mapping[str, object]:
        limit, after = int(message["limit"]), message.get("after")
        key, rows = ("channel", self.channels()) if message["what"] == "channels" else ("connection", self.sessions())
        later = (row for row in rows if after is None or str(row[key]) > str(after))
        return {"rows": heapq.nsmallest(min(limit, _LIST_MAX), later, key=lambda row: str(row[key]))}

    def channels(self) -> Iterable[dict[str, object]]:
        """This node's channels and how many connections each has."""
        subscriptions = self._hub.subscriptions
        names = [name for name in list(subscriptions.names()) if presence_of(name) is None]
        return [{"channel": name, "connections": subscriptions.count(name)} for name in names]

    def sessions(self) -> Iterable[dict[str, object]]:
        """This node's sessions."""
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
    """The nodes' rows as one list in order of `key`; a channel's connections are added up.

    Each node gives its first ones, so that the first ones of all are complete.

    Raises:
        TidingsError: a node's refusal.
    """
    command_result(replies)
    found: dict[str, dict[str, object]] = {}
    for said in replies.replies:
        for row in said.get("rows", ()):
            known = found.get(row[key])
            if known is None:
                found[row[key]] = dict(row)
            elif key == "channel":
                known["connections"] = int(str(known["connections"])) + int(row["connections"])
    limit = int(command.arguments["limit"])
    return [found[name] for name in sorted(found)[:limit]]


def _of_user(hub: Hub, user: str) -> list[Session[Connection]]:
    return [session for session in hub.sessions() if session.user == user]


def _text(message: Mapping[str, Any], *names: str) -> tuple[str, ...]:
    """The values of these names, one of which is a text that is not empty, the others empty.

    Raises:
        BadRequest: it is not so.
    """
    values = tuple(message.get(name) or "" for name in names)
    if sum(1 for value in values if value) != 1 or not all(isinstance(value, str) for value in values):
        raise BadRequest(f"exactly one of {' and '.join(names)}")
    return values
