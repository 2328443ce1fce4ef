"""The faults that are injected into a scene under load, and the gaps that its clients may report."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from itertools import cycle

from faults.full_nodes import FULL_NODE_OPTIONS, fill_node
from faults.idle_channels import NODE_OPTIONS, cut_many_channels
from faults.issuers import drip_key_set, garble_key_set
from faults.partial import fill_redis, freeze_bucket, freeze_sessions, freeze_worker
from faults.scene import SETTLED_S, Outcome, Scene, Setting
from faults.shared_redis import cross_databases, forget_revocations
from support.processes.cluster import ClusterProcess
from support.waiting import wait_until
from tidings.redis_client.keys import DEFAULT_PREFIX, RedisKeys
from tidings.redis_client.topology import open_buckets

_INVALID_MESSAGE = b"x" * 60_000
_INVALID_MESSAGE_MAX = 2_000


class ExpectedGaps(Enum):
    """How many subscriptions report a gap, in channels whose history is longer than the fault."""

    NONE = "none"
    ALL = "all"
    ANY = "any"


@dataclass(frozen=True, slots=True)
class Case:
    """One fault. `short` ones are part of `make test`."""

    name: str
    inject: Callable[[Scene], None]
    expected_gaps: ExpectedGaps
    setting: Setting = field(default_factory=Setting)
    short: bool = False

    def violations(self, scene: Scene, outcome: Outcome) -> list[str]:
        """Problems that the checker of histories does not find."""
        problems = [] if outcome.figures.receipts else ["nothing was received"]
        gaps = outcome.figures.unrecovered
        subscriptions = scene.load.clients * scene.load.channels_per_client
        if self.expected_gaps is ExpectedGaps.NONE and gaps["load"]:
            problems.append(f"clients received {gaps['load']} unnecessary gaps")
        if self.expected_gaps is ExpectedGaps.ALL and gaps.total() < subscriptions:
            problems.append(f"only {gaps.total()} of {subscriptions} subscriptions were notified of a new epoch")
        return problems


def steady(scene: Scene) -> None:
    """No fault."""
    scene.run_load(30)


def kill_node(scene: Scene) -> None:
    """SIGKILL. The clients reconnect to the other node, and the killed node is started again."""
    scene.run_load(5)
    scene.nodes[0].stop()
    scene.wait_for_deliveries()
    scene.run_load(10)
    scene.nodes[0].start()
    scene.run_load(10)
    scene.wait_for_clients()


def stop_node(scene: Scene) -> None:
    """SIGSTOP for 40 s: the sockets of the node stay open, and it does not respond."""
    scene.run_load(5)
    scene.pause(scene.nodes[0])
    scene.run_load(40)
    scene.resume(scene.nodes[0])
    scene.run_load(10)
    scene.wait_for_nodes()
    scene.wait_for_clients()


def rolling_restart(scene: Scene) -> None:
    """SIGTERM, exit 0, start, ready: one node after the other, as in a deployment."""
    for node in scene.nodes:
        scene.run_load(5)
        code = node.terminate()
        if code != 0:
            raise AssertionError(f"a node exited with {code} after draining: {node.log.read_text()[-2000:]}")
        node.start()
        scene.run_load(5)
    scene.wait_for_clients()


def reload_nginx(scene: Scene) -> None:
    """Reload nginx while old workers have connections, and restart it, which cuts all connections."""
    for change in (scene.nginx.reload, scene.nginx.restart, scene.nginx.reload):
        scene.run_load(5)
        change()
        scene.wait_for_deliveries()
        scene.run_load(8)
    scene.wait_for_clients()


def _restart_redis(scene: Scene, file: str) -> None:
    current, older = scene.redis.folder / "appendonlydir", scene.folder / "older"
    scene.run_load(5)
    shutil.copytree(current, older)
    scene.run_load(5)
    scene.redis.kill()
    if file != "same":
        shutil.rmtree(current)
    if file == "older":
        shutil.copytree(older, current)
    scene.run_load(5)
    scene.redis.start()
    scene.wait_for_nodes()
    scene.wait_for_deliveries()
    scene.run_load(10)
    # Clients that reconnect now have a cursor of the new epoch.
    scene.nginx.restart()
    scene.run_load(5)
    scene.wait_for_clients()


def pause_redis(scene: Scene) -> None:
    """SIGSTOP for Redis: connections stay open, and Redis does not respond."""
    scene.run_load(5)
    scene.redis.pause()
    scene.run_load(10)
    scene.redis.resume()
    scene.wait_for_nodes()
    scene.wait_for_deliveries()
    scene.run_load(10)


def herd(scene: Scene) -> None:
    """All clients return at once with missed publications, under load. Then they return while Redis is suspended."""
    scene.run_load(5)
    scene.nginx.stop()
    scene.run_load(8)
    scene.nginx.start()
    scene.wait_for_clients()
    scene.wait_for_deliveries()
    scene.run_load(5)
    scene.redis.pause()
    scene.nginx.restart()
    scene.run_load(14)
    scene.redis.resume()
    scene.wait_for_nodes()
    scene.wait_for_clients()
    scene.wait_for_deliveries()
    scene.run_load(5)


def kill_connections(scene: Scene) -> None:
    """CLIENT KILL, several times: all subscriber connections, then all command connections."""
    with scene.redis.client() as client:
        for kind in ("pubsub", "normal") * 3:
            scene.run_load(4)
            client.client_kill_filter(_type=kind, skipme=True)
            scene.wait_for_deliveries()
    scene.wait_for_nodes()


def overflow_output_buffer(scene: Scene) -> None:
    """A node reads too slowly, and Redis closes its connection."""
    with scene.redis.client() as client:
        for proxy in scene.proxies:
            scene.run_load(3)
            before = _overflow_count(scene)
            proxy.pause()
            # The kernel buffers minutes of the load. Invalid messages, which nodes ignore, fill the buffers faster.
            for _ in range(_INVALID_MESSAGE_MAX):
                client.publish(RedisKeys().control, _INVALID_MESSAGE)
                if _overflow_count(scene) > before:
                    break
            else:
                raise AssertionError("Redis did not close the connection of the node")
            scene.run_load(3)
            proxy.resume()
            scene.wait_for_nodes()
            scene.wait_for_deliveries()
    scene.run_load(5)


def _overflow_count(scene: Scene) -> int:
    """How often Redis closed a connection because of its output buffer."""
    return (scene.redis.folder / "redis.log").read_text().count("output buffer limits")


def fail_over(scene: Scene) -> None:
    """The master is killed and a replica takes over. The old master returns as a replica."""
    sentinels = scene.sentinels
    if sentinels is None:
        raise AssertionError("this fault needs sentinels")
    scene.run_load(5)
    sentinels.kill_master()
    sentinels.wait_for_another_master()
    scene.wait_for_nodes()
    scene.wait_for_deliveries()
    scene.redis.start()
    scene.run_load(10)
    scene.nginx.restart()
    scene.run_load(5)
    scene.wait_for_clients()


def reshard(scene: Scene) -> None:
    """Every bucket moves to another master, key by key, while backends publish."""
    cluster = _cluster(scene)
    for bucket in open_buckets(scene.broker, DEFAULT_PREFIX):
        slot = bucket.address.slot
        scene.run_load(3)
        owner = cluster.owner(slot)
        cluster.move(slot, next(master for master in cluster.masters() if master is not owner))
        scene.wait_for_deliveries()
    scene.wait_for_nodes()
    scene.run_load(5)
    # Clients that reconnect now have cursors of the new epochs.
    scene.nginx.restart()
    scene.run_load(5)
    scene.wait_for_clients()


def kill_master(scene: Scene) -> None:
    """A master of the cluster is killed and a replica takes over. The old master returns as a replica."""
    cluster = _cluster(scene)
    slot = open_buckets(scene.broker, DEFAULT_PREFIX)[0].address.slot
    scene.run_load(5)
    master = cluster.owner(slot)
    master.kill()
    wait_until(lambda: cluster.is_agreed(slot), within_s=SETTLED_S, why="a replica takes over")
    scene.wait_for_nodes()
    scene.wait_for_deliveries()
    scene.run_load(5)
    master.start()
    scene.run_load(5)
    scene.nginx.restart()
    scene.run_load(5)
    scene.wait_for_clients()


def _cluster(scene: Scene) -> ClusterProcess:
    if scene.cluster is None:
        raise AssertionError("this fault needs a cluster")
    return scene.cluster


def lossy_link(scene: Scene) -> None:
    """Stalls (as after lost TCP packets), dropped messages and cut connections, at both nodes."""
    names = cycle(scene.load.names())
    for turn in range(8):
        proxy = scene.proxies[turn % 2]
        for _ in range(scene.load.channels // 5):
            proxy.drop(next(names), skip=turn % 3, times=1 + turn % 2)
        proxy.delay_s = 0.3 * (turn % 3 == 0)
        scene.run_load(3)
        proxy.delay_s = 0.0
        if turn % 4 == 3:
            proxy.cut()
    for proxy in scene.proxies:
        proxy.drop_no_more()
    scene.wait_for_nodes()
    scene.wait_for_deliveries()


def partition(scene: Scene) -> None:
    """Nothing passes between one node and Redis, without closing connections. Then connections are refused."""
    first, second = scene.proxies
    scene.run_load(5)
    first.pause()
    scene.run_load(20)
    first.resume()
    scene.wait_for_nodes()
    scene.wait_for_deliveries()
    second.refuse()
    scene.run_load(10)
    second.accept_again()
    scene.wait_for_nodes()
    scene.wait_for_deliveries()
    scene.run_load(5)


def sleep_clients(scene: Scene) -> None:
    """Half of the clients stop for several heartbeats, like a closed laptop, and continue."""
    sleeper = scene.clients[0]
    scene.run_load(5)
    sleeper.signal(signal.SIGSTOP)
    scene.run_load(30)
    sleeper.signal(signal.SIGCONT)
    scene.run_load(10)
    scene.wait_for_clients()


def lose_responses(scene: Scene) -> None:
    """The connection between nginx and a node breaks with a poll response on it, and nginx repeats the poll."""
    for _ in range(20):
        for proxy in scene.http_proxies:
            proxy.lose_response(b'42["')
        scene.run_load(2)
    scene.wait_for_clients()
    repeated = sum(node.metric("tidings_polls_repeated_total") for node in scene.nodes)
    if not repeated:
        raise AssertionError("nginx repeated no poll, so this run proves nothing")


def jump_clocks(scene: Scene) -> None:
    """The wall clocks of Redis and of a node jump an hour forward, back, an hour backward, and back."""
    for name, by_s in (("node", 3600), ("redis", 3600), ("redis", 0), ("node", -3600), ("redis", -3600), ("redis", 0)):
        scene.run_load(4)
        scene.clocks[name].jump(by_s)
        scene.wait_for_deliveries()
        if name == "redis":
            scene.nginx.restart()
    scene.clocks["node"].jump(0)
    scene.run_load(4)
    scene.wait_for_nodes()
    scene.wait_for_clients()


_PERSISTENT = Setting(redis_options=("--appendonly", "yes", "--appendfsync", "everysec"))
# Fewer workers than clients, and a connect timeout that is shorter than the pause of Redis, also in a short run.
_FEW_WORKERS = Setting(
    node_options="handlers = 8\nconnect_timeout_s = 1.5\nconnect_queue_timeout_s = 6.0\nbroker_timeout_s = 4.0\n"
)
_SMALL_OUTPUT_BUFFER = Setting(
    proxied=True,
    redis_options=("--client-output-buffer-limit", "pubsub 1mb 1mb 1", "--logfile", "redis.log"),
)
_WORKERS = Setting(node_options="workers = 2\nworker_timeout_s = 5.0\n")
CASES = [
    Case("steady", steady, ExpectedGaps.NONE),
    Case("kill-node", kill_node, ExpectedGaps.NONE, short=True),
    Case("stop-node", stop_node, ExpectedGaps.NONE),
    Case("rolling-restart", rolling_restart, ExpectedGaps.NONE, short=True),
    Case("nginx", reload_nginx, ExpectedGaps.NONE),
    Case("redis-same-file", lambda scene: _restart_redis(scene, "same"), ExpectedGaps.ALL, _PERSISTENT, short=True),
    Case("redis-empty", lambda scene: _restart_redis(scene, "empty"), ExpectedGaps.ALL, _PERSISTENT, short=True),
    Case("redis-older-file", lambda scene: _restart_redis(scene, "older"), ExpectedGaps.ALL, _PERSISTENT),
    Case("revocations", forget_revocations, ExpectedGaps.ALL, short=True),
    Case("databases-crossed", cross_databases, ExpectedGaps.NONE, short=True),
    Case("redis-paused", pause_redis, ExpectedGaps.NONE),
    Case("redis-full", fill_redis, ExpectedGaps.NONE, short=True),
    Case("bucket-away", freeze_bucket, ExpectedGaps.ANY, Setting(cluster=True)),
    Case("sessions-away", freeze_sessions, ExpectedGaps.ANY, Setting(cluster=True)),
    Case("worker-frozen", freeze_worker, ExpectedGaps.NONE, _WORKERS),
    Case("herd", herd, ExpectedGaps.NONE, _FEW_WORKERS, short=True),
    Case("client-kill", kill_connections, ExpectedGaps.NONE, short=True),
    Case(
        "many-channels",
        cut_many_channels,
        ExpectedGaps.NONE,
        Setting(proxied=True, node_options=NODE_OPTIONS),
        short=True,
    ),
    Case("output-buffer", overflow_output_buffer, ExpectedGaps.NONE, _SMALL_OUTPUT_BUFFER),
    Case("fail-over", fail_over, ExpectedGaps.ALL, Setting(sentinel=True)),
    Case("reshard", reshard, ExpectedGaps.ALL, Setting(cluster=True)),
    Case("cluster-fail-over", kill_master, ExpectedGaps.ANY, Setting(cluster=True)),
    Case("lossy-link", lossy_link, ExpectedGaps.NONE, Setting(proxied=True)),
    Case("partition", partition, ExpectedGaps.NONE, Setting(proxied=True), short=True),
    Case("sleeping-clients", sleep_clients, ExpectedGaps.NONE),
    Case("poll-repeated", lose_responses, ExpectedGaps.NONE, Setting(loses_responses=True), short=True),
    Case("jwks-drips", drip_key_set, ExpectedGaps.NONE, Setting(issuer=True), short=True),
    Case("jwks-lies", garble_key_set, ExpectedGaps.NONE, Setting(issuer=True)),
    Case("full-node", fill_node, ExpectedGaps.NONE, Setting(node_options=FULL_NODE_OPTIONS), short=True),
    Case("clocks", jump_clocks, ExpectedGaps.ANY, Setting(clocks=True)),
]
