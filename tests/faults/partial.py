"""Faults of a part: Redis that rejects writes only, a bucket of a cluster, one of several workers."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from faults.scene import SETTLED_S, Scene
from support.waiting import wait_until
from tidings.redis_client.keys import DEFAULT_PREFIX
from tidings.redis_client.topology import open_buckets


def fill_redis(scene: Scene) -> None:
    """Redis rejects every write: without free memory, then without the replicas that it needs."""
    with scene.redis.client() as client:
        for name, value in (("maxmemory", 1), ("min-replicas-to-write", 1)):
            scene.run_load(5)
            client.config_set(name, value)
            for node in scene.nodes:
                wait_until(lambda node=node: node.get("/readyz")[0] == 503, within_s=SETTLED_S, why="/readyz fails")
            scene.run_load(5)
            client.config_set(name, 0)
            scene.wait_for_nodes()
            scene.wait_for_deliveries()
    scene.run_load(5)
    scene.wait_for_clients()


def freeze_sessions(scene: Scene) -> None:
    """As `freeze_bucket`, for the master of bucket 0, which stores sessions and commands."""
    freeze_bucket(scene, stores_sessions=True)


def freeze_bucket(scene: Scene, *, stores_sessions: bool = False) -> None:
    """A master of the cluster and its replicas are frozen. Its buckets are away, the others are served."""
    cluster = scene.cluster
    if cluster is None:
        raise AssertionError("this fault needs a cluster")
    slots = [bucket.address.slot for bucket in open_buckets(scene.broker, DEFAULT_PREFIX)]
    first = cluster.owner(slots[0])
    master = first if stores_sessions else next(owner for owner in map(cluster.owner, slots) if owner is not first)
    replicas = [node for node in cluster.nodes if cluster.replicates(node, master)]
    scene.run_load(5)
    for node in (*replicas, master):
        node.pause()
    _wait_for_parts(scene, are_served=False)
    scene.wait_for_deliveries()
    statuses = [hub.get("/readyz")[0] for hub in scene.nodes]
    if statuses != [200, 200]:
        raise AssertionError(f"one bucket is away, and /readyz answers {statuses}")
    scene.run_load(10)
    for node in (master, *replicas):
        node.resume()
    wait_until(cluster.is_complete, within_s=SETTLED_S, why="the cluster is whole")
    _wait_for_parts(scene, are_served=True)
    scene.wait_for_deliveries()
    scene.run_load(5)
    scene.wait_for_clients()


def _wait_for_parts(scene: Scene, *, are_served: bool) -> None:
    for hub in scene.nodes:
        wait_until(
            lambda hub=hub: (hub.metric("tidings_broker_parts_unserved") == 0) is are_served,
            within_s=SETTLED_S,
            why="the metric of each node shows it",
        )


def freeze_worker(scene: Scene) -> None:
    """SIGSTOP for one of the workers of a node. Its supervisor kills and restarts it."""
    scene.run_load(5)
    supervisor = scene.nodes[0].pid
    worker = int(Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()[0])
    os.kill(worker, signal.SIGSTOP)
    wait_until(lambda: not Path(f"/proc/{worker}").exists(), within_s=SETTLED_S, why="the worker is killed")
    scene.wait_for_nodes()
    scene.wait_for_clients()
    scene.wait_for_deliveries()
    scene.run_load(10)
