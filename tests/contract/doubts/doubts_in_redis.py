"""The doubts in one Redis, and a model of them: per channel, the set of doubted seqs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from contract.broker_contract import LIMITS
from tidings.redis_client.keys import RedisKeys
from tidings.redis_client.scripts import pack
from tidings.redis_client.url import RedisAddress
from tidings.wire.cursor import Cursor
from tidings_hub.brokers.doubts.doubt_script import StoredDoubts, doubt_script, pack_doubts, read_doubts
from tidings_hub.brokers.lookup_script import (
    LookupRequest,
    pack_lookup,
    pack_rotate,
    read_lookup,
    read_position,
    rotate_script,
    since_script,
)
from tidings_hub.brokers.redis_commands import RedisCommands
from tidings_hub.core.doubts import EVERYWHERE
from tidings_hub.core.recovery import HistorySnapshot
from tidings_hub.core.seq_ranges import covers
from tidings_hub.metrics import Metrics

# How version 0.1 stored a doubt and widened, both by the spans only.
_OLD_SCRIPT = """
local name, first, last = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local known = redis.call('HGET', KEYS[1], name)
if known then
  local from, to = string.match(known, '^(%d+) (%d+)$')
  first, last = math.min(first, tonumber(from)), math.max(last, tonumber(to))
end
redis.call('HSET', KEYS[1], name, string.format('%.0f %.0f', first, last))
if redis.call('HLEN', KEYS[1]) - 2 - redis.call('HEXISTS', KEYS[1], '*') > tonumber(ARGV[4]) then
  local epoch, serial = unpack(redis.call('HMGET', KEYS[1], '@', '#'))
  for _, value in ipairs(redis.call('HVALS', KEYS[1])) do
    last = math.max(last, tonumber(string.match(value, '^%d+ (%d+)$') or 0))
  end
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], '@', epoch, '#', serial, '*', string.format('0 %.0f', last))
end
redis.call('HINCRBY', KEYS[1], '#', 1)
"""


class DoubtsInRedis:
    """Stores doubts as nodes do. `doubted`: what must be doubted. `seq`: that of the sequence."""

    def __init__(self, address: RedisAddress, keys: RedisKeys, channels_max: int) -> None:
        self.limits = replace(LIMITS, doubts_max=channels_max)
        self.keys = keys
        self.doubted: dict[str, set[int]] = {}
        self._commands = RedisCommands(address, timeout_s=10.0, metrics=Metrics())
        position = self._lookup([], 0).position
        self.epoch, self.seq = position.epoch, position.seq

    def publish(self, count: int) -> None:
        """The sequence goes on."""
        self._commands.run_checked(pack(b"HINCRBY", self.keys.meta, b"seq", b"%d" % count))
        self.seq += count

    def doubt(self, *losses: tuple[str, int]) -> None:
        """Doubt the cursors of each of these channels, from so many seqs back to the present one."""
        firsts = {name: max(0, self.seq - back) for name, back in losses}
        self._commands.run_checked(pack_doubts(self.keys, self.epoch, firsts, self.limits), 1, (doubt_script(),))
        for name, first in firsts.items():
            self.doubted.setdefault(name, set()).update(range(first, self.seq + 1))
        # The message took one.
        self.seq += 1

    def begin_epoch(self) -> None:
        """A new epoch begins, and no cursor of it is doubted."""
        ahead = Cursor(self.epoch, self.seq + 1)
        reply = self._commands.run(pack_rotate(self.keys, ahead), 1, (rotate_script(),))
        self.epoch, self.doubted = read_position(reply[0]).epoch, {}

    def doubt_as_old_node(self, name: str, first: int, last: int) -> None:
        """As `doubt`, by a node of version 0.1, which states the last seq as well."""
        arguments = [part.encode() for part in (name, str(first), str(last), str(self.limits.doubts_max))]
        self._commands.run_checked(pack(b"EVAL", _OLD_SCRIPT.encode(), b"1", self.keys.doubts, *arguments))
        self.doubted.setdefault(name, set()).update(range(first, last + 1))

    def stored(self) -> StoredDoubts:
        """All doubts in Redis, as a node reads them."""
        return read_doubts(self._commands.run(pack(b"HGETALL", self.keys.doubts))[0])

    def fields(self) -> dict[str, str]:
        """The fields in Redis."""
        parts = [part.decode() for part in self._commands.run_checked(pack(b"HGETALL", self.keys.doubts))[0]]
        return dict(zip(parts[::2], parts[1::2], strict=True))

    def read(self, name: str, after: int) -> set[int]:
        """The seqs from `after` on that a lookup reports as doubted for a channel."""
        ranges = self._lookup([name], after).channels[name].doubted
        return {seq for seq in range(after, self.seq + 2) if covers(ranges, seq)}

    def expected(self, name: str) -> set[int]:
        """The seqs that must be doubted for a channel."""
        return self.doubted.get(name, set()) | self.doubted.get(EVERYWHERE, set())

    def problems(self, names: tuple[str, ...]) -> Iterator[str]:
        """Cursors that count as trusted and must not, in a lookup, in all doubts, and for a node of version 0.1."""
        ranges, fields = self.stored().ranges, self.fields()
        for name in names:
            expected = self.expected(name)
            known = [(first, last) for channel, first, last in ranges if channel in (name, EVERYWHERE)]
            spans = [tuple(map(int, fields[field].split(" "))) for field in (name, EVERYWHERE) if field in fields]
            trusted = {
                "a lookup": expected - self.read(name, 0),
                "all doubts": {seq for seq in expected if not covers(known, seq)},
                "the spans": {seq for seq in expected if not any(first <= seq <= last for first, last in spans)},
            }
            yield from (f"{reader} trusts {sorted(seqs)} in {name}" for reader, seqs in trusted.items() if seqs)

    def _lookup(self, channels: list[str], after: int) -> HistorySnapshot:
        request = LookupRequest(channels, dict.fromkeys(channels, after))
        reply = self._commands.run(pack_lookup(self.keys, request, self.limits), 1, (since_script(),))
        return read_lookup(request, reply[0], self.limits)

    def close(self) -> None:
        self._commands.close()
