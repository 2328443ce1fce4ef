"""The listener's format for python-socketio's write-only managers (`core.compat.flask_socketio` parses it)."""

from __future__ import annotations

from collections.abc import Sequence

from tidings_hub.config.ingress import FlaskSocketio
from tidings_hub.core.compat.flask_socketio import read_message
from tidings_hub.core.compat.requests import CommandRequest, PublishRequest, RequestLimits
from tidings_hub.ingress.dispatcher import check_commands_allowed


class FlaskSocketioFormat:
    """The `Format` of `[ingress.flask_socketio]`."""

    name = "flask_socketio"

    def __init__(self, settings: FlaskSocketio, limits: RequestLimits) -> None:
        self._allow_commands = settings.orders
        self._mapping = settings.channel_mapping()
        self._limits = limits
        self.patterns: Sequence[bytes] = [name.encode() for name in settings.channels]

    def read(self, channel: str, message: bytes) -> Sequence[PublishRequest | CommandRequest]:
        """See `Format.read`."""
        request = read_message(message, self._mapping, self._limits)
        if isinstance(request, PublishRequest):
            return [request]
        return check_commands_allowed([request], allowed=self._allow_commands)
