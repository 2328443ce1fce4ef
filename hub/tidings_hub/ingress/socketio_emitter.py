"""The listener's format for Socket.IO's Redis emitters (`core.compat.socketio_emitter` parses it)."""

from __future__ import annotations

from collections.abc import Sequence

from tidings.wire.msgpack import msgpack_module, unpack
from tidings_hub.config.ingress import SocketioEmitter
from tidings_hub.core.compat.requests import CommandRequest, PublishRequest, RequestLimits
from tidings_hub.core.compat.socketio_emitter import read_emit, read_request
from tidings_hub.ingress.dispatcher import check_commands_allowed


class SocketioEmitterFormat:
    """The `Format` of `[ingress.socketio_emitter]`.

    Raises:
        MissingExtra: msgpack is not installed.
    """

    name = "socketio_emitter"

    def __init__(self, settings: SocketioEmitter, limits: RequestLimits) -> None:
        msgpack_module()
        self._settings = settings
        self._channels = settings.channels()
        self._mapping = settings.channel_mapping()
        self._limits = limits
        self.patterns: Sequence[bytes] = self._channels.patterns()

    def read(self, channel: str, message: bytes) -> Sequence[PublishRequest | CommandRequest]:
        """See `Format.read`."""
        if self._channels.is_request(channel):
            requests = read_request(message, self._mapping, self._limits)
            return check_commands_allowed(requests, allowed=self._settings.orders)
        room = self._channels.room(channel)
        return [read_emit(room, unpack(message), self._settings.nsp, self._mapping, self._limits)]
