"""Socket.IO's Redis emitters, as a listener hears them (`core.socketio_emitter` reads)."""

from __future__ import annotations

from collections.abc import Sequence

from tidings.wire.msgpack import msgpack_module, unpack
from tidings_hub.config.ingress import SocketioEmitter
from tidings_hub.core.compat.requests import CommandRequest, PublishRequest, RequestLimits
from tidings_hub.core.compat.socketio_emitter import read_emit, read_request
from tidings_hub.ingress.dispatcher import check_commands_allowed


class SocketioEmitterFormat:
    """A `Format`.

    Raises:
        MissingExtra: msgpack is not installed.
    """

    name = "socketio_emitter"

    def __init__(self, source: SocketioEmitter, bounds: RequestLimits) -> None:
        msgpack_module()
        self._source = source
        self._channels = source.channels()
        self._renames = source.renames()
        self._bounds = bounds
        self.patterns: Sequence[bytes] = self._channels.patterns()

    def read(self, channel: str, message: bytes) -> Sequence[PublishRequest | CommandRequest]:
        """See `Format.read`."""
        if self._channels.is_request(channel):
            return check_commands_allowed(
                read_request(message, self._renames, self._bounds), allowed=self._source.orders
            )
        room = self._channels.room(channel)
        return [read_emit(room, unpack(message), self._source.nsp, self._renames, self._bounds)]
