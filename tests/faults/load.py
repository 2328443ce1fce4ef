"""How much is published to how many clients, and which channels they share."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

# Every tenth channel keeps so few publications that whoever is away for some seconds is told of a gap.
_BRIEF_EVERY = 10
# Clients that are neighbours by number share one channel, not all of them.
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
    """`length`: what the times of a fault are multiplied with. `processes`: that the clients are spread over."""

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
        """All of them."""
        return self.websocket + self.polling

    def names(self) -> list[str]:
        """The channels."""
        return [channel(number) for number in range(self.channels)]

    def channels_of(self, client: int) -> list[str]:
        """The channels of one client."""
        return [channel((client + turn * _STRIDE) % self.channels) for turn in range(self.channels_per_client)]

    def is_polling(self, client: int) -> bool:
        """Spread evenly, so that each process has its share of both."""
        return client * self.polling // self.clients != (client + 1) * self.polling // self.clients

    def as_options(self) -> dict[str, Any]:
        """For a program's command line."""
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
