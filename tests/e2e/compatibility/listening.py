"""Two hubs on one Redis that listen to other emitters' formats, and clients on both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.processes.client import ClientProcess
from support.processes.hub import CONFIG, HubProcess, token
from support.processes.redis import RedisProcess
from support.waiting import wait_until

LEASE_S = 1.0


@dataclass
class TwoHubs:
    """Two nodes on one Redis; `hubs` maps their names to them."""

    redis: RedisProcess
    hubs: dict[str, HubProcess]
    clients: list[ClientProcess] = field(default_factory=list)

    def listening(self) -> list[str]:
        """Return the names of the nodes that listen to the compatibility format."""
        return [name for name, hub in self.hubs.items() if hub.metric("tidings_wires_listening") > 0]

    def wait_listening(self, *, except_for: str = "") -> str:
        """Wait until a node listens, and return its name; `except_for` is a node that is stopped."""
        candidates = {name: hub for name, hub in self.hubs.items() if name != except_for}
        wait_until(
            lambda: any(hub.metric("tidings_wires_listening") > 0 for hub in candidates.values()), why="a node listens"
        )
        (listener,) = [name for name, hub in candidates.items() if hub.metric("tidings_wires_listening") > 0]
        return listener

    def count(self, metric: str) -> float:
        """Return the sum of a metric over both nodes."""
        return sum(hub.metric(f"tidings_wires_{metric}") for hub in self.hubs.values())

    def start_clients(self, user: str, *channels: str) -> list[ClientProcess]:
        """Start a client of this user on each node."""
        clients = [
            ClientProcess("js-websocket", hub.url, token=token(user, "*"), channels=list(channels))
            for hub in self.hubs.values()
        ]
        self.clients += clients
        for client in clients:
            client.wait_ready()
        return clients

    def stop_clients(self) -> None:
        """Stop all clients."""
        while self.clients:
            self.clients.pop().stop()


@contextmanager
def two_hubs(redis: RedisProcess, folder: Path, prefix: str, ingress: str) -> Iterator[TwoHubs]:
    """Run two hubs with these ingress settings, given as TOML."""
    settings = f'prefix = "{prefix}"\ningress_lease_s = {LEASE_S}\npublication_max_bytes = 2000\n'
    hubs = {}
    for name in ("one", "other"):
        (folder / name).mkdir()
        flags = ("--broker", redis.url, "--node-id", name)
        hubs[name] = HubProcess(folder / name, *flags, extra=settings, config=CONFIG + ingress)
    two = TwoHubs(redis, hubs)
    try:
        for hub in hubs.values():
            hub.start()
        two.wait_listening()
        yield two
    finally:
        two.stop_clients()
        for hub in hubs.values():
            hub.stop()
    assert not [hub for hub in hubs.values() if "Traceback" in hub.log.read_text()]


def publications_of(client: ClientProcess) -> list[tuple[str, str, Any]]:
    """Return event, channel and data of all publications that the client received."""
    return [(item["event"], item["channel"], item["data"]) for item in client.records_of("publication")]


def wait_publications(clients: list[ClientProcess], *expected: tuple[str, str, Any]) -> None:
    """Wait until each client has received exactly these publications, in this order."""
    for client in clients:
        client.wait(
            lambda client: len(publications_of(client)) >= len(expected), why=lambda: f"{len(expected)} publications"
        )
        assert publications_of(client) == list(expected)
