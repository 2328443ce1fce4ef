"""The case `channel-memory`: what Redis stores per channel, by the publications that it has."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import redis

from bench import machine
from bench.case import Column, Row
from bench.systems import System
from tidings.publishers.base import OutgoingPublication
from tidings.publishers.redis.publisher import RedisPublisher
from tidings.receipts import Receipt
from tidings.wire.publication import encode_body

_BATCH = 100
_TIMEOUT_S = 30.0
# Publications per channel, and bytes of the data of each.
_LOADS = ((1, 200), (5, 200), (20, 200), (100, 200), (1, 1000), (20, 1000))
CHANNEL_MEMORY = tuple(
    Column(f"bytes_{count}_{size}", f"bytes with {count} of {size:,} bytes") for count, size in _LOADS
)


@dataclass(frozen=True, slots=True)
class ChannelMemory:
    """Publish in so many new channels, and divide what Redis then uses more by their number. Ids are not stored."""

    channels: int

    def __call__(self, system: System, *, quick: bool) -> Row:
        row: Row = {}
        publisher, client = RedisPublisher(system.rig.redis_url), redis.Redis.from_url(system.rig.redis_url)
        try:
            for count, size in _LOADS:
                names = [f"bench:{secrets.token_hex(5)}" for _ in range(self.channels // (10 if quick else 1))]
                before = client.info("memory")["used_memory"]
                for number in range(count):
                    _publish(publisher, names, number, size)
                row[f"bytes_{count}_{size}"] = (client.info("memory")["used_memory"] - before) / len(names)
        finally:
            publisher.close()
            client.close()
        return row


def _publish(publisher: RedisPublisher, names: list[str], number: int, size: int) -> None:
    data = b'"%b"' % (b"x" * (size - 2))
    items = [
        OutgoingPublication(name, encode_body("updated", data, id=f"{number}", at_ms=1_700_000_000_000), f"{number}", 0)
        for name in names
    ]
    for start in range(0, len(items), _BATCH):
        answers = publisher.publish(items[start : start + _BATCH], timeout_s=_TIMEOUT_S)
        errors = [answer for answer in answers if not isinstance(answer, Receipt)]
        if errors:
            raise machine.BenchError(f"a publish failed: {errors[0]}")
