"""The cost of presence: many members of one channel on one node, and the share of Redis. `python -m bench.presence`.

Prints the table of docs/presence.md. It measures CPU seconds, since other work on the machine does not change them.
"""

from __future__ import annotations

import argparse
import os
import selectors
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from support.network.raw_client import masked_frame
from support.processes.hub import API_KEY, SECRET, HubProcess, token
from support.processes.redis import RedisProcess
from support.signals import raise_on_stop_signals
from support.waiting import wait_until
from tidings import Emitter

_UPGRADE = (
    b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
)
_CONFIG = f"""
secret = "{SECRET}"
api_keys = ["{API_KEY}"]
presence_list_max = LIST_MAX
presence_lease_s = 5.0
ping_interval_s = 300.0
[namespaces.hall]
subscribe = "public"
[namespaces.room]
subscribe = "public"
presence = true
"""
_CONCURRENCY = 200
_REPEATS = 40
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class PresenceClients:
    """Clients that connect, authenticate, and count the bytes and events that they receive."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._selector = selectors.DefaultSelector()
        self.sockets: list[socket.socket] = []
        self.bytes = 0
        self.events = 0

    def join(self, first: int, count: int, channel: str, *, watch: bool) -> None:
        """Connect `count` more clients, each with another user, and wait until all are ready."""
        for start in range(first, first + count, _CONCURRENCY):
            waiting: dict[socket.socket, bytes] = {}
            for number in range(start, min(start + _CONCURRENCY, first + count)):
                presence = f',"presence":["{channel}"]' if watch else ""
                bearer = token(f"user-{number}", info={"name": f"User number {number}"})
                auth = f'40{{"token":"{bearer}","channels":["{channel}"]{presence}}}'
                client = socket.create_connection(("127.0.0.1", self._port))
                client.sendall(_UPGRADE + masked_frame(1, auth.encode()))
                client.setblocking(False)
                self._selector.register(client, selectors.EVENT_READ)
                self.sockets.append(client)
                waiting[client] = b""
            while waiting:
                for client, data in self.read(1.0):
                    if client in waiting:
                        waiting[client] += data
                        if b"tidings:ready" in waiting[client]:
                            del waiting[client]

    def read(self, within_s: float) -> Iterator[tuple[socket.socket, bytes]]:
        """Read what has arrived, at most `within_s` seconds later."""
        for key, _ in self._selector.select(within_s):
            assert isinstance(key.fileobj, socket.socket)
            data = key.fileobj.recv(262_144)
            if not data:
                raise AssertionError("the hub closed a connection")
            self.bytes += len(data)
            self.events += data.count(b'42["tidings:')
            yield key.fileobj, data

    def drain(self, seconds: float) -> None:
        """Read for `seconds`."""
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            list(self.read(0.1))

    def leave(self) -> None:
        """Close all connections."""
        for client in self.sockets:
            self._selector.unregister(client)
            client.close()
        self.sockets.clear()


class Meter:
    """CPU seconds of a hub and of Redis, and the number of Redis commands, since the last row."""

    def __init__(self, hub: HubProcess, redis: RedisProcess) -> None:
        self._hub, self._redis = hub, redis
        self._last = self._now()

    def _now(self) -> tuple[float, float, float, float]:
        with self._redis.client() as client:
            info = client.info("all")
        cpu_s = info["used_cpu_user"] + info["used_cpu_sys"]
        return time.monotonic(), hub_cpu_s(self._hub), cpu_s, info["total_commands_processed"]

    def next_row(self) -> str:
        """The columns wall, hub, Redis and commands."""
        last, self._last = self._last, self._now()
        wall_s, hub_s, redis_s, commands = (now - before for now, before in zip(self._last, last, strict=True))
        return f"{wall_s:.1f} s | {hub_s:.2f} s | {redis_s:.2f} s | {commands:,.0f} |"


def print_line(text: str) -> None:
    """Print one line immediately."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def row(name: str, meter: Meter) -> None:
    print_line(f"| {name} | {meter.next_row()}")


def hub_cpu_s(hub: HubProcess) -> float:
    """User and system time of the hub so far."""
    fields = Path(f"/proc/{hub.pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def median_ms(call: Callable[[], object]) -> str:
    """Call repeatedly; return the median duration in ms."""
    durations_ms = []
    for _ in range(_REPEATS):
        start_s = time.monotonic()
        call()
        durations_ms.append((time.monotonic() - start_s) * 1000)
    return f"{sorted(durations_ms)[_REPEATS // 2]:.1f} ms"


@contextmanager
def running_nodes(folder: Path, list_max: int, nodes: int = 1) -> Iterator[tuple[RedisProcess, list[HubProcess]]]:
    """Run a Redis and nodes."""
    redis = RedisProcess(Path(tempfile.mkdtemp(dir=folder))).start()
    config = _CONFIG.replace("LIST_MAX", str(list_max))
    hubs = [
        HubProcess(Path(tempfile.mkdtemp(dir=folder)), "--broker", redis.url, "--node-id", f"n{number}", config=config)
        for number in range(nodes)
    ]
    try:
        for hub in hubs:
            hub.start()
        yield redis, hubs
    finally:
        for hub in hubs:
            hub.stop()
        redis.stop()


def measure(folder: Path, members: int) -> None:
    print_line("| case | wall | hub CPU | Redis CPU | Redis commands |\n|---|---|---|---|---|")
    with running_nodes(folder, 10_000, nodes=2) as (redis, (hub, other)):
        meter = Meter(hub, redis)
        clients = PresenceClients(hub.port)
        clients.join(0, members, "hall:1", watch=False)
        row(f"{members:,} join a channel without presence", meter)
        clients.drain(10)
        row("10 s with all members connected", meter)
        clients.leave()
        wait_until(lambda: hub.metric("tidings_sessions") == 0, within_s=60)
        meter.next_row()
        clients.join(0, members, "room:1", watch=False)
        with Emitter(redis.url) as emitter:
            wait_until(lambda: emitter.presence("room:1", limit=1).count == members, within_s=60)
        row(f"{members:,} join a channel with presence", meter)
        clients.drain(10)
        row("10 s with all members connected (two nodes)", meter)
        measure_queries(redis, hub, members)
        meter.next_row()
        clients.leave()
        wait_until(lambda: other.get("/api/channels/room:1/presence")[1]["count"] == 0, within_s=60)
        row("all leave, until the grace period ends", meter)
        clients.join(0, members, "room:1", watch=False)
        wait_until(lambda: other.get("/api/channels/room:1/presence")[1]["count"] == members, within_s=60)
        start_s, sweeper = time.monotonic(), Meter(other, redis)
        hub.stop()
        wait_until(lambda: other.metric("tidings_presence_leaves_total") >= members, within_s=60)
        took_s = time.monotonic() - start_s
        print_line(f"| all leave with a killed node, lease 5 s, removed after {took_s:.1f} s | {sweeper.next_row()}")
        clients.leave()
    for count, list_max in ((1_000, 1_000), (members, 1_000)):
        with running_nodes(folder, list_max) as (redis, (hub,)):
            meter, clients = Meter(hub, redis), PresenceClients(hub.port)
            clients.join(0, count, "room:1", watch=True)
            clients.drain(3)
            row(f"{count:,} join and all subscribe to presence, lists up to {list_max:,}", meter)
            print_line(f"\n{clients.events:,} events, {clients.bytes / 1e6:.0f} MB to the clients\n")
            clients.leave()


def measure_queries(redis: RedisProcess, hub: HubProcess, members: int) -> None:
    with Emitter(redis.url) as emitter, Emitter(hub.url, api_key=API_KEY) as over_http, redis.client() as client:
        for limit, query in ((10_000, f"list of {members:,}"), (10, "count only")):
            client.config_resetstat()
            over_redis = median_ms(lambda limit=limit: emitter.presence("room:1", limit=limit))  # type: ignore[misc]
            redis_ms = client.info("commandstats")["cmdstat_eval"]["usec_per_call"] / 1000
            before = hub_cpu_s(hub)
            median_ms(lambda limit=limit: over_http.presence("room:1", limit=limit))  # type: ignore[misc]
            hub_ms = (hub_cpu_s(hub) - before) * 1000 / _REPEATS
            print_line(
                f"| one query, {query} | {over_redis} over Redis | {hub_ms:.1f} ms over HTTP | {redis_ms:.2f} ms | |"
            )
        size = sum(client.memory_usage(key, samples=0) for key in client.scan_iter("*presence*"))
    print_line(f"| Redis' memory | {size / members:.0f} bytes per member | | | |")


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--members", type=int, default=10_000)
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), arguments.parse_args().members)
    return 0


if __name__ == "__main__":
    raise_on_stop_signals()
    sys.exit(main())
