"""python-socketio's write-only managers, as a listener hears them (`core.flask_socketio` reads)."""

from __future__ import annotations

from collections.abc import Sequence

from tidings_hub.config.ingress import FlaskSocketio
from tidings_hub.core.compat.flask_socketio import read_message
from tidings_hub.core.compat.requests import CommandRequest, PublishRequest, RequestLimits
from tidings_hub.ingress.dispatcher import check_commands_allowed


class FlaskSocketioFormat:
    """A `Format`."""

    name = "flask_socketio"

    def __init__(self, source: FlaskSocketio, bounds: RequestLimits) -> None:
        self._orders = source.orders
        self._renames = source.renames()
        self._bounds = bounds
        self.patterns: Sequence[bytes] = [name.encode() for name in source.channels]

    def read(self, channel: str, message: bytes) -> Sequence[PublishRequest | CommandRequest]:
        """See `Format.read`."""
        asked = read_message(message, self._renames, self._bounds)
        return [asked] if isinstance(asked, PublishRequest) else check_commands_allowed([asked], allowed=self._orders)
