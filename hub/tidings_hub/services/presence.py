"""Presence: who of this node is in which channel, and the answer to who is there at all.

What is told here may be told from the pump; `turns` takes it to the broker. What is asked here waits for the broker.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from tidings.errors import BadData, Forbidden, TooLarge, Unavailable
from tidings.wire.cursor import Cursor
from tidings.wire.payload import encode_data
from tidings.wire.presence import NO_INFO, Presence, presence_channel
from tidings.wire.publication import Publication
from tidings_hub.brokers.base import Broker
from tidings_hub.config.settings import Settings
from tidings_hub.core.access import Access
from tidings_hub.core.frame import Frame
from tidings_hub.core.local_presence import presence_frame
from tidings_hub.core.sessions import Session
from tidings_hub.log import log_rate_limited
from tidings_hub.metrics import Metrics
from tidings_hub.services.presence_sync import PresenceSync

logger = logging.getLogger("tidings.wire.presence")

_ROUNDS_MAX = 5
# What one answer may take of a connection's out-buffer, so that publications still fit behind.
_OUT_BUFFER_SHARE = 2


class PresenceService:
    """This node's part in presence. Without a namespace that has it, nothing ever runs."""

    def __init__(
        self,
        settings: Settings,
        broker: Broker,
        access: Access,
        metrics: Metrics,
        *,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._broker = broker
        self._access = access
        self._metrics = metrics
        self._namespaces = presence_namespaces(settings)
        self._started = False
        self._turns = PresenceSync(settings, broker, metrics, self._namespaces, now_s=now_s)
        # The last publication that this node delivered in each presence channel it listens to.
        self._delivered: dict[str, Cursor] = {}

    def start(self) -> None:
        """Begin to tell the broker, as soon as a namespace has presence."""
        self._started = True
        if self._namespaces:
            self._turns.start()

    def stop(self) -> None:
        """This node's users count as gone after the grace, unless another node has them by then."""
        self._turns.stop()

    def apply_settings(self, settings: Settings, access: Access, sessions: Collection[Session[Any]]) -> None:
        """Go by these rules from now on, for what the sessions are subscribed to as well."""
        before = [(session, self._with_presence(session.channels)) for session in sessions]
        old, self._namespaces = self._namespaces, presence_namespaces(settings)
        self._settings, self._access = settings, access
        if old == self._namespaces:
            return
        for session, had in before:
            has = self._with_presence(session.channels)
            self._turns.leave(session.user, [name for name in had if name not in has])
            self._turns.join(session.user, [name for name in has if name not in had], self._info(session))
        self._turns.set_namespaces(self._namespaces)
        if self._started:
            self.start()

    # What the hub tells. Nothing here waits.

    def on_subscribed(self, session: Session[Any], channels: Iterable[str]) -> None:
        """The session is subscribed to these channels now."""
        concerned = self._with_presence(channels)
        if concerned:
            self._turns.join(session.user, concerned, self._info(session))

    def on_token_refreshed(self, session: Session[Any]) -> None:
        """The session has a new token, perhaps with another `info`."""
        concerned = self._with_presence(session.channels)
        if concerned:
            self._turns.update_info(session.user, concerned, self._info(session))

    def on_unsubscribed(self, session: Session[Any], channels: Iterable[str]) -> None:
        """The session is no longer subscribed to these channels."""
        concerned = self._with_presence(channels)
        if concerned:
            self._turns.leave(session.user, concerned)

    def frame(self, publication: Publication) -> Frame:
        """The frame of a publication in a presence channel: a join, a leave or a count."""
        self._delivered[publication.channel] = Cursor(publication.epoch, publication.seq)
        return presence_frame(publication)

    def forget_channels(self, channels: Iterable[str]) -> None:
        """Nobody here listens to these channels any more."""
        for channel in channels:
            self._delivered.pop(channel, None)

    def _with_presence(self, channels: Iterable[str]) -> list[str]:
        if not self._namespaces:
            return []
        return [name for name in channels if self._access.has_presence(name)]

    def _info(self, session: Session[Any]) -> bytes:
        info = session.claims.info
        if info is None:
            return NO_INFO
        try:
            if isinstance(info, Mapping):
                return encode_data(info, max_bytes=self._settings.presence_info_max_bytes)
            why = "it is no object"
        except (BadData, TooLarge) as error:
            why = str(error)
        self._metrics.presence_infos_refused += 1
        log_rate_limited(logger, logging.WARNING, "info", "presence does not show the info of a token: %s", why)
        return NO_INFO

    # What is asked. It waits for the broker.

    def members(self, channel: str, *, limit: int | None = None) -> Presence:
        """Who is in a channel, over all nodes, with all that this node knew when it was asked.

        Raises:
            Forbidden, UnknownNamespace: nobody knows. Unavailable: the broker does not answer.
        """
        self._access.check_presence_enabled(channel)
        self._turns.flush()
        most = self._settings.presence_list_max
        found = self._broker.members(channel, limit=most if limit is None else min(limit, most))
        self._metrics.presence_lists_refused += found.infos is None and found.count > most
        return found

    def members_for(self, session: Session[Any], channel: str) -> Presence:
        """As `members`, for a client.

        Where it returns, no join or leave that is newer has been delivered here yet: applied one after the other,
        answer and events give the right list.

        Raises:
            Forbidden, UnknownNamespace, Unavailable: it may not see it, or not now.
        """
        self._access.check_presence_visible(channel)
        if channel not in session.channels:
            raise Forbidden(f"subscribe to {channel} first: who sees who is there is there as well")
        for _ in range(_ROUNDS_MAX):
            found = self.members(channel)
            if found.infos is not None and _size(found.infos) > self._settings.out_buffer_bytes // _OUT_BUFFER_SHARE:
                self._metrics.presence_lists_refused += 1
                found = Presence(found.cursor, found.count, None)
            if found.infos is None or not self._newer(channel, Cursor.parse(found.cursor)):
                return found
        raise Unavailable("too many come and go just now; ask again in a second")

    def _newer(self, channel: str, cursor: Cursor) -> bool:
        """Whether something newer was delivered. Of another epoch it is not: its clients are told of a gap."""
        last = self._delivered.get(presence_channel(channel))
        seq = None if last is None else cursor.seq_in(last.epoch)
        return last is not None and seq is not None and last.seq > seq


def presence_namespaces(settings: Settings) -> list[str]:
    """The namespaces whose rule has `presence = true`, sorted."""
    return sorted(name for name, rule in settings.broker_rules().items() if rule.presence)


def _size(infos: Mapping[str, bytes]) -> int:
    return sum(len(user) + len(info) + 24 for user, info in infos.items())
