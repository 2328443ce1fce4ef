"""Which cursors a broker that stores doubts recovers, after several losses in a channel."""

from __future__ import annotations

from contract.broker_contract import LIMITS, Node
from support.waiting import wait_until
from tidings.redis_client.keys import RedisKeys
from tidings.redis_client.url import RedisAddress
from tidings.wire.cursor import Cursor
from tidings_hub.brokers.doubts.doubt_script import doubt_script, pack_doubts
from tidings_hub.brokers.redis_commands import RedisCommands
from tidings_hub.core.doubts import RANGES_MAX
from tidings_hub.core.recovery import missed_since
from tidings_hub.metrics import Metrics


def check_doubted_ranges(node: Node, channel: str, address: RedisAddress, keys: RedisKeys) -> None:
    """Other nodes lose publications, more often than a channel has ranges. `node` recovers all cursors but theirs.

    `address`, `keys`: of the bucket of this channel. The node is subscribed to the channel.
    """
    commands = RedisCommands(address, timeout_s=10.0, metrics=Metrics())
    ids: list[str] = []
    doubted: list[Cursor] = []
    trusted: list[tuple[Cursor, int]] = []
    for _ in range(RANGES_MAX + 1):
        start = node.publish(channel)
        lost = node.publish(channel)
        ids += [start.id, lost.id]
        trusted.append((Cursor.parse(start.cursor), len(ids) - 1))
        doubted.append(Cursor.parse(lost.cursor))
        packed = pack_doubts(keys, doubted[-1].epoch, {channel: doubted[-1].seq}, LIMITS)
        commands.run_checked(packed, 1, (doubt_script(),))
    commands.close()
    wait_until(lambda: node.sink.doubts == [(channel, cursor.seq, cursor.seq) for cursor in doubted])
    past = node.broker.read_since([channel], trusted[0][0], limit=100)
    results = {seq: missed_since(seq, past.position, past.channels[channel], limit=100) for seq in doubted}
    assert [getattr(result, "reason", "recovered") for result in results.values()] == ["doubted"] * len(doubted)
    for number, (cursor, received) in enumerate(trusted):
        missed = missed_since(cursor, past.position, past.channels[channel], limit=100)
        if number == 1:
            # Between the two oldest losses, whose ranges are one.
            assert getattr(missed, "reason", "recovered") == "doubted"
        else:
            assert isinstance(missed, list), missed
            assert [item.id for item in missed] == ids[received:]
