"""The load: publications per second, number of clients, and the channels that they share."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

# Every tenth channel has a short history: clients that are disconnected for some seconds receive a gap.
_BRIEF_EVERY = 10
# Clients with neighbouring numbers share one channel, not all.
_STRIDE = 37
CONFIG = """
[namespaces.load]
subscribe = "token"
history = 1000
history_ttl_s = 600
[namespaces.brief]
subscribe = "token"
history = 10
history_ttl_s = 600
"""
PATTERNS = ("load:*", "brief:*")
MARK = "end-"


@dataclass(frozen=True, slots=True)
class Load:
    """One load. `length` is the factor for the times of a fault; `processes` is the number of client processes."""

    publications_per_s: int
    websocket: int
    polling: int
    channels: int
    channels_per_client: int
    backends: int
    length: float
    processes: int = 2

    @property
    def clients(self) -> int:
        """Number of clients."""
        return self.websocket + self.polling

    def names(self) -> list[str]:
        """The names of all channels."""
        return [channel(number) for number in range(self.channels)]

    def channels_of(self, client: int) -> list[str]:
        """The channels of one client."""
        return [channel((client + turn * _STRIDE) % self.channels) for turn in range(self.channels_per_client)]

    def is_polling(self, client: int) -> bool:
        """Whether a client uses long polling. Both transports are spread evenly over the processes."""
        return client * self.polling // self.clients != (client + 1) * self.polling // self.clients

    def as_options(self) -> dict[str, Any]:
        """The load as JSON options for a program."""
        return asdict(self)


FULL = Load(
    publications_per_s=500, websocket=333, polling=167, channels=100, channels_per_client=3, backends=20, length=1.0
)
SHORT = Load(
    publications_per_s=60,
    websocket=16,
    polling=8,
    channels=12,
    channels_per_client=3,
    backends=4,
    length=0.2,
    processes=1,
)


def channel(number: int) -> str:
    """A channel's name."""
    return f"{'brief' if number % _BRIEF_EVERY == _BRIEF_EVERY - 1 else 'load'}:{number}"
