"""What an emitter requests of the nodes: commands, history, presence and the nodes themselves."""

from __future__ import annotations

import time

from tidings.current_publisher import LoopPublishers
from tidings.options import Options
from tidings.publishers.base import AsyncNodeQueries
from tidings.wire import control
from tidings.wire.channels import check_channel
from tidings.wire.control import Command, CommandResult, History, NodeRecord
from tidings.wire.presence import LIST_MAX, Presence
from tidings.wire.reports import Report, ReportQuery


class AsyncNodeRequests:
    """The part of `AsyncEmitter` that needs replies of nodes, or of the broker."""

    _options: Options
    _publisher: LoopPublishers

    async def disconnect(self, *, user: str | None = None, connection: str | None = None) -> CommandResult:
        """Close all connections of a user, or one by its public id, on every node. Clients may reconnect: see `revoke`.

        The result counts connections and nodes. `missing` names live nodes that did not reply in time.

        Raises:
            CallerError: not exactly one of the two, or a malformed name.
            Unavailable: no node received the command. TimedOut: it may or may not have run.
        """
        return await self._send(control.disconnect(user=user, connection=connection))

    async def revoke(
        self,
        *,
        user: str | None = None,
        jti: str | None = None,
        for_s: float | None = None,
        until_s: float | None = None,
    ) -> CommandResult:
        """Lock out a user or one token on every node, at once, for `for_s` seconds or until `until_s` (unix seconds).

        The broker stores the revocation: a node that misses the command reads it within its `canary_interval_s`.

        Raises:
            CallerError, Unavailable, TimedOut: as `disconnect`.
        """
        return await self._send(control.revoke(user=user, jti=jti, for_s=for_s, until_s=until_s, now_s=time.time()))

    async def subscribe(self, *, user: str, channel: str) -> CommandResult:
        """Subscribe all live connections of a user to a channel, whatever their tokens cover.

        The subscription ends with the connection. After a reconnect the client needs a token that covers the channel.

        Raises:
            CallerError, Unavailable, TimedOut: as `disconnect`; UnknownNamespace.
        """
        return await self._send(control.subscribe(user=user, channel=channel))

    async def unsubscribe(self, *, user: str, channel: str) -> CommandResult:
        """Unsubscribe all live connections of a user from a channel. A client that may subscribe can do so again.

        Raises:
            CallerError, Unavailable, TimedOut: as `disconnect`.
        """
        return await self._send(control.unsubscribe(user=user, channel=channel))

    async def history(self, channel: str, *, limit: int = control.PAGE, since: str | None = None) -> History:
        """Stored publications of a channel, oldest first: the first `limit` after the cursor `since`, or the last ones.

        Raises:
            BadChannel, BadCursor, BadRequest, UnknownNamespace, Unavailable, TimedOut.
        """
        after = control.check_page(channel, since, limit)
        return await self._queries("history").history(
            channel, since=after, limit=limit, timeout_s=self._options.timeout_s
        )

    async def nodes(self) -> list[NodeRecord]:
        """Every live node, with its connections, sessions and channels as of a few seconds ago.

        Raises:
            Unavailable, TimedOut: no reply.
        """
        return await self._queries("nodes").nodes(timeout_s=self._options.timeout_s)

    async def presence(self, channel: str, *, limit: int = LIST_MAX) -> Presence:
        """The users in a channel. `members` of the result is `info` by user, `count` the number of users.

        For more than `limit` users (over HTTP: the hub's `presence_list_max`) `members` is None.

        Raises:
            BadChannel: not a channel. Forbidden: its namespace has no presence.
            Unavailable, TimedOut: no reply in time.
        """
        return await self._queries("presence").presence(
            check_channel(channel), limit=limit, timeout_s=self._options.timeout_s
        )

    async def _send(self, command: Command) -> CommandResult:
        return await self._queries(command.name).send_command(command, timeout_s=self._options.timeout_s)

    async def _report(self, query: ReportQuery, timeout_s: float) -> Report:
        return await self._queries("report").report(query, timeout_s=timeout_s)

    def _queries(self, operation: str) -> AsyncNodeQueries:
        """The publisher, if nodes reply through it.

        Raises:
            BadConfig: the URL only takes publications; the message names `operation`.
        """
        publisher = self._publisher.current
        if isinstance(publisher, AsyncNodeQueries):
            return publisher
        raise self._options.no_replies(operation)
