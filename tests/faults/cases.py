"""The faults: what is done to a scene under load, and what its clients may be told."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from itertools import cycle

from faults.scene import SETTLED_S, Outcome, Scene, Setting
from support.processes.cluster import ClusterProcess
from support.waiting import wait_until
from tidings.redis_client.keys import DEFAULT_PREFIX, RedisKeys
from tidings.redis_client.topology import open_buckets

_JUNK = b"x" * 60_000
_JUNK_MAX = 2_000


class ExpectedGaps(Enum):
    """Who may be told that something is missing, in channels whose history is longer than the fault."""

    NOBODY = "nobody"
    EVERYBODY = "everybody"
    ANYBODY = "anybody"


@dataclass(frozen=True, slots=True)
class Case:
    """One fault. `short`: part of `make test`."""

    name: str
    do: Callable[[Scene], None]
    expected_gaps: ExpectedGaps
    setting: Setting = field(default_factory=Setting)
    short: bool = False

    def breaches(self, scene: Scene, outcome: Outcome) -> list[str]:
        """What is wrong beside the history."""
        breaches = [] if outcome.figures.receipts else ["nothing was received"]
        unrecovered = outcome.figures.unrecovered
        subscriptions = scene.load.clients * scene.load.channels_per_client
        if self.expected_gaps is ExpectedGaps.NOBODY and unrecovered["load"]:
            breaches.append(f"{unrecovered['load']} times a client was told of a gap that need not be")
        if self.expected_gaps is ExpectedGaps.EVERYBODY and unrecovered.total() < subscriptions:
            breaches.append(f"only {unrecovered.total()} of {subscriptions} subscriptions were told of a new epoch")
        return breaches


def steady(scene: Scene) -> None:
    """Nothing happens."""
    scene.last(30)


def kill_node(scene: Scene) -> None:
    """SIGKILL; its clients find the other node, and it comes back."""
    scene.last(5)
    scene.nodes[0].stop()
    scene.flows()
    scene.last(10)
    scene.nodes[0].start()
    scene.last(10)
    scene.all_back()


def stop_node(scene: Scene) -> None:
    """SIGSTOP for 40 s: its sockets stay open, and nobody answers."""
    scene.last(5)
    scene.pause(scene.nodes[0])
    scene.last(40)
    scene.resume(scene.nodes[0])
    scene.last(10)
    scene.all_ready()
    scene.all_back()


def rolling_restart(scene: Scene) -> None:
    """SIGTERM, exit 0, start, ready: one node after the other, as a deployment does."""
    for node in scene.nodes:
        scene.last(5)
        code = node.terminate()
        if code != 0:
            raise AssertionError(f"a node that drained ended with {code}: {node.log.read_text()[-2000:]}")
        node.start()
        scene.last(5)
    scene.all_back()


def reload_nginx(scene: Scene) -> None:
    """Reload with connections on the old workers, and a restart that cuts all."""
    for change in (scene.nginx.reload, scene.nginx.restart, scene.nginx.reload):
        scene.last(5)
        change()
        scene.flows()
        scene.last(8)
    scene.all_back()


def _redis_comes_back(scene: Scene, file: str) -> None:
    current, older = scene.redis.folder / "appendonlydir", scene.folder / "older"
    scene.last(5)
    shutil.copytree(current, older)
    scene.last(5)
    scene.redis.kill()
    if file != "same":
        shutil.rmtree(current)
    if file == "older":
        shutil.copytree(older, current)
    scene.last(5)
    scene.redis.start()
    scene.all_ready()
    scene.flows()
    scene.last(10)
    # Whoever returns now has a cursor of the new epoch.
    scene.nginx.restart()
    scene.last(5)
    scene.all_back()


def pause_redis(scene: Scene) -> None:
    """SIGSTOP: connections stay open, nothing answers."""
    scene.last(5)
    scene.redis.pause()
    scene.last(10)
    scene.redis.resume()
    scene.all_ready()
    scene.flows()
    scene.last(10)


def kill_connections(scene: Scene) -> None:
    """CLIENT KILL of all connections, again and again: those that listen, and those that ask."""
    with scene.redis.client() as client:
        for kind in ("pubsub", "normal") * 3:
            scene.last(4)
            client.client_kill_filter(_type=kind, skipme=True)
            scene.flows()
    scene.all_ready()


def overflow_output_buffer(scene: Scene) -> None:
    """A node that reads too slowly for Redis, which cuts it off."""
    with scene.redis.client() as client:
        for proxy in scene.proxies:
            scene.last(3)
            before = _cut_off(scene)
            proxy.pause()
            # The kernel would take minutes of the load in: junk, which every node listens to and skips, is quicker.
            for _ in range(_JUNK_MAX):
                client.publish(RedisKeys().control, _JUNK)
                if _cut_off(scene) > before:
                    break
            else:
                raise AssertionError("Redis did not cut the node off")
            scene.last(3)
            proxy.resume()
            scene.all_ready()
            scene.flows()
    scene.last(5)


def _cut_off(scene: Scene) -> int:
    """How often Redis closed a connection because of its output buffer."""
    return (scene.redis.folder / "redis.log").read_text().count("output buffer limits")


def fail_over(scene: Scene) -> None:
    """The master is killed and a replica takes over; the old one comes back as a replica."""
    guarded = scene.guarded
    if guarded is None:
        raise AssertionError("this fault needs sentinels")
    scene.last(5)
    guarded.kill_master()
    guarded.wait_for_another_master()
    scene.all_ready()
    scene.flows()
    scene.redis.start()
    scene.last(10)
    scene.nginx.restart()
    scene.last(5)
    scene.all_back()


def reshard(scene: Scene) -> None:
    """Every bucket moves to another master, key by key, while publications pour in."""
    cluster = _cluster(scene)
    for bucket in open_buckets(scene.broker, DEFAULT_PREFIX):
        slot = bucket.address.slot
        scene.last(3)
        home = cluster.owner(slot)
        cluster.move(slot, next(node for node in cluster.masters() if node is not home))
        scene.flows()
    scene.all_ready()
    scene.last(5)
    # Whoever returns now has a cursor of the new epochs.
    scene.nginx.restart()
    scene.last(5)
    scene.all_back()


def kill_master(scene: Scene) -> None:
    """A master of the cluster is killed, a replica takes over, and the old master comes back as a replica."""
    cluster = _cluster(scene)
    slot = open_buckets(scene.broker, DEFAULT_PREFIX)[0].address.slot
    scene.last(5)
    master = cluster.owner(slot)
    master.kill()
    wait_until(lambda: cluster.is_agreed(slot), within_s=SETTLED_S, why="a replica takes over")
    scene.all_ready()
    scene.flows()
    scene.last(5)
    master.start()
    scene.last(5)
    scene.nginx.restart()
    scene.last(5)
    scene.all_back()


def _cluster(scene: Scene) -> ClusterProcess:
    if scene.cluster is None:
        raise AssertionError("this fault needs a cluster")
    return scene.cluster


def lossy_link(scene: Scene) -> None:
    """Stalls, as TCP makes them of lost packets, messages that never come, and cuts, at both nodes."""
    names = cycle(scene.load.names())
    for turn in range(8):
        proxy = scene.proxies[turn % 2]
        for _ in range(scene.load.channels // 5):
            proxy.drop(next(names), skip=turn % 3, times=1 + turn % 2)
        proxy.delay_s = 0.3 * (turn % 3 == 0)
        scene.last(3)
        proxy.delay_s = 0.0
        if turn % 4 == 3:
            proxy.cut()
    for proxy in scene.proxies:
        proxy.drop_no_more()
    scene.all_ready()
    scene.flows()


def partition(scene: Scene) -> None:
    """Nothing gets through between one node and Redis, and no connection ends; then connections are refused."""
    first, second = scene.proxies
    scene.last(5)
    first.pause()
    scene.last(20)
    first.resume()
    scene.all_ready()
    scene.flows()
    second.refuse()
    scene.last(10)
    second.accept_again()
    scene.all_ready()
    scene.flows()
    scene.last(5)


def sleep_clients(scene: Scene) -> None:
    """Half of the clients sleep through several heartbeats, as a closed laptop does, and wake up."""
    sleeper = scene.clients[0]
    scene.last(5)
    sleeper.signal(signal.SIGSTOP)
    scene.last(30)
    sleeper.signal(signal.SIGCONT)
    scene.last(10)
    scene.all_back()


def jump_clocks(scene: Scene) -> None:
    """The wall clocks of Redis and of a node go an hour ahead, back, an hour behind, and back; clients return."""
    for name, by_s in (("node", 3600), ("redis", 3600), ("redis", 0), ("node", -3600), ("redis", -3600), ("redis", 0)):
        scene.last(4)
        scene.clocks[name].jump(by_s)
        scene.flows()
        if name == "redis":
            scene.nginx.restart()
    scene.clocks["node"].jump(0)
    scene.last(4)
    scene.all_ready()
    scene.all_back()


_FILE = Setting(redis_options=("--appendonly", "yes", "--appendfsync", "everysec"))
_NARROW = Setting(
    proxied=True,
    redis_options=("--client-output-buffer-limit", "pubsub 1mb 1mb 1", "--logfile", "redis.log"),
)
CASES = [
    Case("steady", steady, ExpectedGaps.NOBODY),
    Case("kill-node", kill_node, ExpectedGaps.NOBODY, short=True),
    Case("stop-node", stop_node, ExpectedGaps.NOBODY),
    Case("rolling-restart", rolling_restart, ExpectedGaps.NOBODY, short=True),
    Case("nginx", reload_nginx, ExpectedGaps.NOBODY),
    Case("redis-same-file", lambda scene: _redis_comes_back(scene, "same"), ExpectedGaps.EVERYBODY, _FILE, short=True),
    Case("redis-empty", lambda scene: _redis_comes_back(scene, "empty"), ExpectedGaps.EVERYBODY, _FILE, short=True),
    Case("redis-older-file", lambda scene: _redis_comes_back(scene, "older"), ExpectedGaps.EVERYBODY, _FILE),
    Case("redis-paused", pause_redis, ExpectedGaps.NOBODY),
    Case("client-kill", kill_connections, ExpectedGaps.NOBODY, short=True),
    Case("output-buffer", overflow_output_buffer, ExpectedGaps.NOBODY, _NARROW),
    Case("fail-over", fail_over, ExpectedGaps.EVERYBODY, Setting(sentinel=True)),
    Case("reshard", reshard, ExpectedGaps.EVERYBODY, Setting(cluster=True)),
    Case("cluster-fail-over", kill_master, ExpectedGaps.ANYBODY, Setting(cluster=True)),
    Case("lossy-link", lossy_link, ExpectedGaps.NOBODY, Setting(proxied=True)),
    Case("partition", partition, ExpectedGaps.NOBODY, Setting(proxied=True), short=True),
    Case("sleeping-clients", sleep_clients, ExpectedGaps.NOBODY),
    Case("clocks", jump_clocks, ExpectedGaps.ANYBODY, Setting(clocks=True)),
]
