"""Presence: which users of this node are in which channel, and the member list of a channel over all nodes.

The methods `on_…` never wait, so the pump may call them; `presence_sync` writes the changes to the broker. `members`
and `members_for` wait for the broker.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
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

logger = logging.getLogger("tidings.presence")

_MEMBERS_ATTEMPTS = 5
# A member list may fill this share of a connection's out-buffer (1/2), so that publications still fit behind it.
_OUT_BUFFER_SHARE = 2


class PresenceService:
    """This node's part in presence. It starts no thread before a namespace has `presence = true`."""

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
        self._syncs = [
            PresenceSync(settings, broker, metrics, self._namespaces, now_s=now_s, part=part)
            for part in range(broker.presence_parts)
        ]
        # The position of the last publication that this node delivered, by presence channel.
        self._delivered: dict[str, Cursor] = {}

    def start(self) -> None:
        """Start to write to the broker, as soon as a namespace has presence."""
        self._started = True
        if self._namespaces:
            for sync in self._syncs:
                sync.start()

    def stop(self) -> None:
        """Stop writing. Users leave after `presence_grace_s`, unless they are connected to another node by then."""
        for sync in self._syncs:
            sync.begin_stop()
        for sync in self._syncs:
            sync.wait_stopped()

    def apply_settings(self, settings: Settings, access: Access, sessions: Collection[Session[Any]]) -> None:
        """Apply new rules, also to the channels that the sessions are subscribed to already."""
        old_channels = [(session, self._with_presence(session.channels)) for session in sessions]
        old, self._namespaces = self._namespaces, presence_namespaces(settings)
        self._settings, self._access = settings, access
        if old == self._namespaces:
            return
        for session, old_names in old_channels:
            names = self._with_presence(session.channels)
            self._leave(session, [name for name in old_names if name not in names])
            self._join(session, [name for name in names if name not in old_names])
        for sync in self._syncs:
            sync.set_namespaces(self._namespaces)
        if self._started:
            self.start()

    # Notifications of the hub. Nothing here waits.

    def on_subscribed(self, session: Session[Any], channels: Iterable[str]) -> None:
        """The session has subscribed to these channels."""
        self._join(session, self._with_presence(channels))

    def on_token_refreshed(self, session: Session[Any]) -> None:
        """The session has a new token, possibly with another `info`."""
        if names := self._with_presence(session.channels):
            info = self._info(session)
            for sync, share in self._shares(names):
                sync.update_info(session.user, share, info)

    def on_unsubscribed(self, session: Session[Any], channels: Iterable[str]) -> None:
        """The session has unsubscribed from these channels."""
        self._leave(session, self._with_presence(channels))

    def frame(self, publication: Publication) -> Frame:
        """The frame of a publication in a presence channel: a join, a leave or a count."""
        self._delivered[publication.channel] = Cursor(publication.epoch, publication.seq)
        return presence_frame(publication)

    def forget_channels(self, channels: Iterable[str]) -> None:
        """This node is no longer subscribed to these channels."""
        for channel in channels:
            self._delivered.pop(channel, None)

    def _join(self, session: Session[Any], names: Sequence[str]) -> None:
        if names:
            info = self._info(session)
            for sync, share in self._shares(names):
                sync.join(session.user, share, info)

    def _leave(self, session: Session[Any], names: Sequence[str]) -> None:
        for sync, share in self._shares(names):
            sync.leave(session.user, share)

    def _shares(self, names: Sequence[str]) -> Iterable[tuple[PresenceSync, Sequence[str]]]:
        """The channels of each part of the broker, with its sync."""
        if len(self._syncs) == 1:
            return [(self._syncs[0], names)] if names else []
        shares: dict[int, list[str]] = {}
        for name in names:
            shares.setdefault(self._broker.presence_part_of(name), []).append(name)
        return [(self._syncs[part], share) for part, share in shares.items()]

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
            reason = "it is not an object"
        except (BadData, TooLarge) as error:
            reason = str(error)
        self._metrics.presence_infos_refused += 1
        log_rate_limited(logger, logging.WARNING, "info", "the info of a token is not shown in presence: %s", reason)
        return NO_INFO

    # Queries. They wait for the broker.

    def members(self, channel: str, *, limit: int | None = None) -> Presence:
        """The members of a channel over all nodes, including every change that this node has noticed.

        Raises:
            Forbidden: the channel's namespace has no presence.
            UnknownNamespace: it has no rule.
            Unavailable: the broker did not answer.
        """
        self._access.check_presence_enabled(channel)
        self._syncs[self._broker.presence_part_of(channel)].flush()
        list_max = self._settings.presence_list_max
        presence = self._broker.members(channel, limit=list_max if limit is None else min(limit, list_max))
        self._metrics.presence_lists_refused += presence.infos is None and presence.count > list_max
        return presence

    def members_for(self, session: Session[Any], channel: str) -> Presence:
        """As `members`, for a client that keeps the list up to date with join and leave events.

        When it returns, this node has delivered no join or leave that is newer than the list. So a client that applies
        the list and then the events has the right members.

        Raises:
            Forbidden: the rule does not allow it, or the session is not subscribed to the channel.
            UnknownNamespace: the channel has no rule.
            Unavailable: the broker did not answer, or the members change too fast.
        """
        self._access.check_presence_visible(channel)
        if channel not in session.channels:
            raise Forbidden(f"subscribe to {channel} first: only its subscribers may see its members")
        for _ in range(_MEMBERS_ATTEMPTS):
            presence = self.members(channel)
            size_max = self._settings.out_buffer_bytes // _OUT_BUFFER_SHARE
            if presence.infos is not None and _size(presence.infos) > size_max:
                self._metrics.presence_lists_refused += 1
                presence = Presence(presence.cursor, presence.count, None)
            if presence.infos is None or not self._has_delivered_after(channel, Cursor.parse(presence.cursor)):
                return presence
        raise Unavailable("members join and leave too fast; request the list again in a second")

    def _has_delivered_after(self, channel: str, cursor: Cursor) -> bool:
        """Whether a newer join or leave was delivered. False for another epoch: its clients get `tidings:gap`."""
        last = self._delivered.get(presence_channel(channel))
        seq = None if last is None else cursor.seq_in(last.epoch)
        return last is not None and seq is not None and last.seq > seq


def presence_namespaces(settings: Settings) -> list[str]:
    """The namespaces whose rule has `presence = true`, sorted."""
    return sorted(name for name, rule in settings.broker_rules().items() if rule.presence)


def _size(infos: Mapping[str, bytes]) -> int:
    return sum(len(user) + len(info) + 24 for user, info in infos.items())
