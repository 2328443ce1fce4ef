"""A real Redis Cluster of a test's own: three masters, each with a replica, all on the loopback."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from support.ports import free_port
from support.processes.redis import RedisProcess
from support.waiting import wait_until

MASTERS = 3
SLOTS = 16_384


def _free_pair() -> tuple[int, int]:
    """Two free ports: for clients, and for the cluster bus."""
    return free_port(), free_port()


class ClusterProcess:
    """The processes of one cluster; the first half are made masters, with the slots shared out in order."""

    def __init__(self, folder: Path, *, replicas: bool = True) -> None:
        self._folder = folder
        self._count = MASTERS * 2 if replicas else MASTERS
        self.nodes: list[RedisProcess] = []

    def url(self, buckets: int = 4) -> str:
        """Its URL: two of the nodes, the rest is to be learned."""
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[:2])
        return f"redis+cluster://{hosts}?buckets={buckets}"

    def start(self) -> ClusterProcess:
        """Start all nodes, and wait until they are one cluster with every replica in step."""
        for number in range(self._count):
            own = self._folder / f"node{number}"
            own.mkdir()
            self.nodes.append(self._node(own))
        places = [f"127.0.0.1:{node.port}" for node in self.nodes]
        replicas = "1" if len(self.nodes) > MASTERS else "0"
        self.cli("--cluster", "create", *places, "--cluster-replicas", replicas, "--cluster-yes")
        wait_until(self.is_complete, within_s=60, why="the cluster is whole")
        return self

    def _node(self, folder: Path) -> RedisProcess:
        while True:
            port, bus = _free_pair()
            options = ("--cluster-enabled", "yes", "--cluster-port", str(bus), "--cluster-node-timeout", "2000")
            more = ("--cluster-require-full-coverage", "no", "--cluster-replica-validity-factor", "0")
            node = RedisProcess(folder, *options, *more, "--repl-diskless-sync-delay", "0", port=port)
            node.launch()
            wait_until(lambda node=node: node.answers() or node.has_ended(), why="redis-server answers")
            if not node.has_ended():
                return node

    def cli(self, *arguments: str) -> str:
        """Run redis-cli and return its output."""
        done = subprocess.run(["redis-cli", *arguments], capture_output=True, text=True, timeout=100, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
        return done.stdout

    def is_complete(self) -> bool:
        """Whether every node sees all slots served, and every replica has its master's data."""
        for node in self.nodes:
            if not node.answers():
                return False
            with node.client() as client:
                info = client.execute_command("CLUSTER INFO")
                state = info if isinstance(info, dict) else _pairs(info)
                if state["cluster_state"] != "ok" or int(state["cluster_known_nodes"]) != len(self.nodes):
                    return False
                replication = client.info("replication")
                if replication["role"] == "slave" and replication["master_link_status"] != "up":
                    return False
        return True

    def owner(self, slot: int) -> RedisProcess:
        """The master that serves a slot, as soon as all nodes that live agree."""
        wait_until(lambda: self.is_agreed(slot), within_s=60, why=f"the nodes agree on the master of slot {slot}")
        (port,) = {self._owner_port(node, slot) for node in self.nodes if node.answers()} - {None}
        return next(node for node in self.nodes if node.port == port)

    def _owner_port(self, node: RedisProcess, slot: int) -> int | None:
        with node.client() as client:
            for first, last, master, *_ in _slots(client):
                if first <= slot <= last:
                    return int(master[1])
        return None

    def replicates(self, node: RedisProcess, master: RedisProcess) -> bool:
        """Whether a node is a replica of this master."""
        with node.client() as client:
            replication = client.info("replication")
        return bool(replication["role"] == "slave" and replication["master_port"] == master.port)

    def configure(self, name: str, value: str) -> None:
        """Set an option on every node that answers."""
        for node in [node for node in self.nodes if node.answers()]:
            with node.client() as client:
                client.config_set(name, value)

    def masters(self) -> list[RedisProcess]:
        """The nodes that serve slots, in the eyes of the first node that lives."""
        first = next(node for node in self.nodes if node.answers())
        with first.client() as client:
            ports = {int(master[1]) for _, _, master, *_ in _slots(client)}
        return [node for node in self.nodes if node.port in ports]

    def replace(self, master: RedisProcess) -> None:
        """Let a replica take a master's place, as an operator does: no write is lost."""
        own = self.cli("-p", str(master.port), "CLUSTER", "MYID").strip()
        for node in self.nodes:
            lines = self.cli("-p", str(node.port), "CLUSTER", "NODES").splitlines()
            if any("myself,slave" in line and own in line for line in lines):
                assert self.cli("-p", str(node.port), "CLUSTER", "FAILOVER").strip() == "OK"
                return
        raise AssertionError("it has no replica")

    def is_agreed(self, slot: int) -> bool:
        """Whether all running nodes agree on the master of a slot."""
        owners = {self._owner_port(node, slot) for node in self.nodes if node.answers()}
        return len(owners) == 1 and None not in owners

    def client(self, slot: int) -> Any:
        """A client of the master of a slot."""
        return self.owner(slot).client()

    def move(self, slot: int, target: RedisProcess) -> None:
        """Move one slot as redis-cli does it: key by key, while everything goes on."""
        source = self.owner(slot)
        with source.client() as exporting, target.client() as importing:
            names = {
                number: client.execute_command("CLUSTER MYID").decode()
                for number, client in ((1, exporting), (2, importing))
            }
            importing.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", names[1])
            exporting.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", names[2])
            while keys := exporting.execute_command("CLUSTER GETKEYSINSLOT", slot, 10):
                exporting.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
            importing.execute_command("CLUSTER SETSLOT", slot, "NODE", names[2])
            exporting.execute_command("CLUSTER SETSLOT", slot, "NODE", names[2])
        wait_until(lambda: self.is_agreed(slot), why="all nodes know where the slot is")

    def stop(self) -> None:
        """End all nodes. Idempotent."""
        for node in self.nodes:
            node.stop()


def _pairs(text: bytes) -> dict[str, str]:
    return dict(line.split(":", 1) for line in text.decode().splitlines() if ":" in line)


def _slots(client: Any) -> Any:
    client.set_response_callback("CLUSTER SLOTS", lambda reply, **_: reply)
    return client.execute_command("CLUSTER SLOTS")
