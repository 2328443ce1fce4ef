"""Redis Sentinel for tests: a master, its replica and three sentinels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support.ports import free_port
from support.processes.redis import RedisProcess
from support.waiting import wait_until

_SERVICE = "main"
_QUORUM = 2


class SentinelGroup:
    """Two Redises, one the master of the other, and three sentinels."""

    def __init__(self, folder: Path) -> None:
        self.redises = [self._redis(folder / "first"), self._redis(folder / "second")]
        for redis in self.redises:
            redis.start()
        self.master = self.redises[0].port
        with self.redises[1].client() as client:
            client.replicaof("127.0.0.1", self.master)
        self.sentinels = [self._sentinel(folder / f"sentinel-{number}").start() for number in range(3)]
        wait_until(self._ready, within_s=60.0, why="the sentinels know each other and the replica")

    def _redis(self, folder: Path) -> RedisProcess:
        folder.mkdir()
        return RedisProcess(folder, "--repl-diskless-sync-delay", "0")

    def _sentinel(self, folder: Path) -> RedisProcess:
        folder.mkdir()
        config = folder / "sentinel.conf"
        config.write_text(
            f"sentinel monitor {_SERVICE} 127.0.0.1 {self.master} {_QUORUM}\n"
            f"sentinel down-after-milliseconds {_SERVICE} 1000\n"
            f"sentinel failover-timeout {_SERVICE} 4000\n"
        )
        return RedisProcess(folder, port=free_port(), program=["redis-server", str(config), "--sentinel"])

    def _ask(self, sentinel: RedisProcess) -> dict[str, Any]:
        with sentinel.client() as client:
            state: dict[str, Any] = client.sentinel_master(_SERVICE)
            return state

    def _ready(self) -> bool:
        for sentinel in self.sentinels:
            state = self._ask(sentinel)
            if (state["num-slaves"], state["num-other-sentinels"]) != (1, 2):
                return False
        with self.redises[1].client() as client:
            return bool(client.info("replication")["master_link_status"] == "up")

    @property
    def url(self) -> str:
        """The URL for hubs and emitters. No sentinel listens at its first address."""
        places = [f"127.0.0.1:{port}" for port in (free_port(), *(sentinel.port for sentinel in self.sentinels))]
        return f"redis+sentinel://{','.join(places)}/{_SERVICE}/0"

    def kill_master(self) -> None:
        """Send SIGKILL to the master."""
        self.redises[0].kill()

    def start_failover(self) -> None:
        """Start a planned failover: the master becomes a replica."""
        with self.sentinels[0].client() as client:
            client.sentinel_failover(_SERVICE)

    def wait_for_another_master(self) -> None:
        """Wait until every sentinel reports the other Redis as the master."""
        wait_until(
            lambda: all(self._ask(sentinel)["port"] != self.master for sentinel in self.sentinels),
            within_s=90.0,
            why="another master",
        )

    def stop(self) -> None:
        """Stop all processes. Idempotent."""
        for process in (*self.sentinels, *self.redises):
            process.stop()
