"""Random publications, faults and clients on two hubs, compared with a model that knows every publication.

Run it as a program: `recovery_model.py <redis|memory> <seed> <seconds>`. It prints what clients lack.
The standard library is patched first, as in a hub.
"""

from __future__ import annotations

from tidings_hub import runtime

runtime.patch()

import random  # noqa: E402 - imported after `patch`, like everything below
import sys  # noqa: E402
import tempfile  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable, Sequence  # noqa: E402
from dataclasses import replace  # noqa: E402
from functools import partial  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from contract.broker_contract import LIMITS, outgoing  # noqa: E402
from support.clients.model_client import ModelClient, fan_out  # noqa: E402
from support.network.proxy import Proxy  # noqa: E402
from support.processes.redis import RedisProcess  # noqa: E402
from support.waiting import wait_until  # noqa: E402
from tidings.errors import TidingsError  # noqa: E402
from tidings.publishers.base import OutgoingPublication  # noqa: E402
from tidings.publishers.memory.store import MemoryStore  # noqa: E402
from tidings.publishers.redis.publisher import RedisPublisher  # noqa: E402
from tidings.receipts import Receipt  # noqa: E402
from tidings.redis_client.keys import RedisKeys  # noqa: E402
from tidings.wire.claims import Claims  # noqa: E402
from tidings.wire.cursor import Cursor  # noqa: E402
from tidings_hub.brokers.base import Broker  # noqa: E402
from tidings_hub.brokers.memory import MemoryBroker  # noqa: E402
from tidings_hub.brokers.redis import RedisBroker  # noqa: E402
from tidings_hub.config.settings import Settings  # noqa: E402
from tidings_hub.metrics import Metrics  # noqa: E402
from tidings_hub.services.hub import Hub  # noqa: E402
from tidings_hub.services.hub_event import hub_event  # noqa: E402
from tidings_hub.services.subscribe import go_live, subscribe  # noqa: E402

# Cold channels, shared reads that are cut, and histories that are trimmed occur within seconds.
BOUNDS = replace(LIMITS, repair_first=6, recovery_max_bytes=3_000, recovery_round_max_bytes=3_000)
NAMESPACES = {"orders": {"history": 100}, "brief": {"history": 3}, "gone": {"history": 0}}
CLIENTS_MAX = 30
# As if the clock of Redis went ahead: keys and marks of the horizon end earlier.
AGE = """
local past_ms = tonumber(ARGV[1])
for _, name in ipairs(redis.call('KEYS', '*')) do
  local left_ms = redis.call('PTTL', name)
  if left_ms >= 0 then redis.call('PEXPIRE', name, string.format('%.0f', left_ms - past_ms)) end
end
local epoch, list = string.match(redis.call('HGET', KEYS[1], 'marks') or '', '^(%S+)(.*)$')
if epoch then
  local marks = {epoch}
  for seq, until_ms in string.gmatch(list, ' (%d+) (%d+)') do
    marks[#marks + 1] = seq .. ' ' .. string.format('%.0f', math.max(0, tonumber(until_ms) - past_ms))
  end
  redis.call('HSET', KEYS[1], 'marks', table.concat(marks, ' '))
end
"""


class World:
    """Two hubs, their clients, and every publication that was acknowledged: its seq and its channel."""

    def __init__(self, brokers: Sequence[Callable[[Metrics], Broker]], publish: Callable[..., list[Any]]) -> None:
        self.published: list[tuple[int, str]] = []
        self.clients: list[ModelClient] = []
        self.channels = ["orders:0", "orders:1", "brief:0", "gone:0", *(f"orders:{number}" for number in range(2, 7))]
        self._publish = publish
        self._calls: list[list[ModelClient]] = []
        self._threads: list[threading.Thread] = []
        self.hubs = [self._hub(make) for make in brokers]

    def _hub(self, make: Callable[[Metrics], Broker]) -> Hub:
        settings, metrics = Settings.model_validate({"namespaces": NAMESPACES}), Metrics()
        broker = make(metrics)
        hub = Hub(settings, broker, settings.access(), None, fan_out=fan_out, metrics=metrics)
        broker.write_rules(settings.broker_rules())
        broker.start(hub)
        wait_until(lambda: broker.state().connected, why="the node is connected")
        return hub

    def busy_channels(self, rng: random.Random, count: int) -> list[str]:
        """Channels to publish in. The later ones are quiet, so that they may lose their pointers."""
        return rng.choices(self.channels, [0.7**rank for rank in range(len(self.channels))], k=count)

    def publish(self, channels: Sequence[str]) -> None:
        items = [outgoing(name, idempotency_s=0) for name in channels]
        notified: list[ModelClient] = []
        self._calls.append(notified)
        seqs = [Cursor.parse(answer.cursor).seq for answer in self._publish(items) if isinstance(answer, Receipt)]
        self.published += zip(seqs, channels, strict=True)
        for client in notified:
            client.during_gap.update(seqs)
        self._calls = [call for call in self._calls if call is not notified]

    def on_gap(self, client: ModelClient) -> int:
        """The client reloads now. Returns up to where its data is surely complete."""
        for call in self._calls:
            call.append(client)
        return max((seq for seq, _ in self.published), default=0)

    def add_client(self, channels: list[str], *, is_highest: bool) -> ModelClient:
        client = ModelClient(channels, is_highest, on_gap=self.on_gap)
        self.clients.append(client)
        return client

    def connect(self, client: ModelClient, hub: Hub) -> None:
        client.is_connecting = True
        try:
            self._subscribe(client, hub)
        finally:
            client.is_connecting = False

    def _subscribe(self, client: ModelClient, hub: Hub) -> None:
        session = hub.open(client, Claims(sub="u", expires_at_s=None, channels=("*",)))
        since = None if client.cursor is None else Cursor.parse(client.cursor)
        try:
            joined = subscribe(hub, session, client.channels, since)
        except TidingsError:
            hub.close(session)
            return
        client.session, client.hub = session, hub
        ready = {
            "cursor": str(joined.cursor),
            "channels": joined.final_answers(),
            "position": str(joined.position),
            "lost": sorted(joined.catchup.lost),
        }
        go_live(hub, session, joined, hub_event("tidings:ready", ready))

    def disconnect(self, client: ModelClient) -> None:
        if client.hub is not None and client.session is not None:
            client.hub.close(client.session)
            client.session = client.hub = None

    def move(self, clients: Sequence[ModelClient], hub: Hub) -> None:
        """Connect these clients to another hub, with the cursors that they have."""
        for client in clients:
            self.disconnect(client)
            if not client.is_connecting:
                self.connect(client, hub)

    def away(self) -> list[ModelClient]:
        """The clients that may connect again."""
        return [client for client in self.clients if client.session is None and not client.is_connecting]

    def in_background(self, function: Callable[..., object], *arguments: object) -> None:
        """Call the function in a thread. `settle` waits for it."""
        self._threads.append(threading.Thread(target=function, args=arguments, daemon=True))
        self._threads[-1].start()

    def settle(self) -> None:
        """Connect every client, and wait until each loss is found and each node knows of it."""
        for thread in self._threads:
            thread.join()
        for hub in self.hubs:
            wait_until(lambda: hub.broker.state().connected)  # noqa: B023 - called at once
        while away := self.away():
            for client in away:
                self.connect(client, self.hubs[0])
            # A hub without its link refuses at once, and needs this thread's time to connect.
            time.sleep(0.01)
        doubts = -1
        while doubts != (doubts := sum(hub.metrics.doubts for hub in self.hubs)):
            for hub in self.hubs:
                self._check(hub)

    def _check(self, hub: Hub) -> None:
        """Wait for a whole check of the hub's channels. It has read all doubts then that were stored before."""
        if hub.broker.name == "redis":
            before = hub.metrics.position_checks
            # A check begins when the one before it is finished.
            wait_until(lambda: hub.metrics.position_checks >= before + 2, why="the hub checks its channels")


def act(world: World, rng: random.Random, faults: Sequence[Callable[[], object]]) -> None:
    """One random act."""
    kinds = {"publish": 30, "connect": 12, "return": 6, "leave": 9, "move": 12, "fresh": 3, "fault": 10}
    kind = rng.choices(list(kinds), list(kinds.values()))[0]
    present = [client for client in world.clients if client.session is not None]
    if kind == "publish":
        channels = world.busy_channels(rng, rng.choice([1, 2, 5, 30]))
        rng.choice([world.publish, partial(world.in_background, world.publish)])(channels)
    elif kind == "connect" and len(world.clients) < CLIENTS_MAX:
        channels = rng.sample(world.channels, rng.randint(1, 6))
        world.connect(world.add_client(channels, is_highest=rng.random() < 0.5), rng.choice(world.hubs))
    elif kind == "return":
        reconnect(world, rng, world.away())
    elif kind in {"leave", "move"}:
        for client in (leaving := rng.sample(present, min(len(present), rng.choice([1, 5])))):
            world.disconnect(client)
        if kind == "move":
            reconnect(world, rng, leaving)
    elif kind == "fresh":
        world.channels.append(f"orders:fresh-{len(world.channels)}")
    elif kind == "fault" and faults:
        rng.choice(faults)()
    time.sleep(rng.random() * 0.02)


def reconnect(world: World, rng: random.Random, clients: Sequence[ModelClient]) -> None:
    """Connect these clients with the cursors that they have, while publications arrive."""
    for client in clients:
        world.in_background(world.connect, client, rng.choice(world.hubs))
    for channel in world.busy_channels(rng, 8):
        # While they subscribe and read.
        world.in_background(world.publish, [channel])
        time.sleep(0)


def run(world: World, rng: random.Random, seconds: float, faults: Sequence[Callable[[], object]]) -> list[str]:
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        act(world, rng, faults)
    world.settle()
    lacking = [text for client in world.clients for text in client.lacks(world.published)]
    for hub in world.hubs:
        hub.broker.stop()
    return lacking


def run_on_memory(rng: random.Random, seconds: float) -> list[str]:
    store = MemoryStore()

    def publish(items: Sequence[OutgoingPublication]) -> list[Any]:
        return [store.publish(item) for item in items]

    brokers = [lambda metrics: MemoryBroker(limits=BOUNDS, metrics=metrics, store=store)] * 2
    return run(World(brokers, publish), rng, seconds, [])


def run_on_redis(rng: random.Random, seconds: float) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        redis = RedisProcess(Path(folder)).start()
        raw: Any = redis.client()
        proxies = [Proxy(redis.port), Proxy(redis.port)]
        backend = RedisPublisher(redis.url)
        brokers = [
            lambda metrics, proxy=proxy: RedisBroker(proxy.url, limits=BOUNDS, metrics=metrics) for proxy in proxies
        ]
        world = World(brokers, lambda items: backend.publish(items, timeout_s=10))

        def lose() -> None:
            proxy = rng.choice(proxies)
            proxy.drop(rng.choice(world.channels))
            if rng.random() < 0.2:
                proxy.drop_doubts()

        def lose_and_move() -> None:
            number, channel = rng.randrange(2), rng.choice(world.channels)
            here, there = world.hubs[number], world.hubs[1 - number]
            moving = [client for client in world.clients if client.hub is here and channel in client.channels]
            proxies[number].drop(channel)
            for hub in (there, here):
                # The first publication is lost. The second one shows that to the node, after its clients have left.
                world.publish([channel])
                time.sleep(rng.random() * 0.02)
                world.publish(world.busy_channels(rng, 5))
                time.sleep(rng.random() * 0.02)
                world.move(moving, hub)

        def age() -> None:
            # Seldom, because no history outlives it. Quiet channels may lose their pointers, then clients return.
            if rng.random() < 0.6:
                world.publish(world.channels[3:])
                past_ms = rng.choice([0.5, 1.3]) * BOUNDS.pointer_ttl_s * 1000
                raw.eval(AGE, 1, RedisKeys().meta, int(past_ms))
                for client in world.away():
                    world.connect(client, rng.choice(world.hubs))

        faults = [lose, lose, lose_and_move, age, lambda: rng.choice(proxies).cut()]
        faults.append(lambda: raw.client_kill_filter(_type="pubsub"))
        try:
            return run(world, rng, seconds, faults)
        finally:
            backend.close()
            for proxy in proxies:
                proxy.close()
            redis.stop()


if __name__ == "__main__":
    kind, seed, length_s = sys.argv[1:]
    lines = (run_on_redis if kind == "redis" else run_on_memory)(random.Random(int(seed)), float(length_s))
    sys.exit("\n".join(lines) or 0)
