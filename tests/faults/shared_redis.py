"""What Redis shares although it should not, and what it forgets although it should not."""

from __future__ import annotations

from faults.issuers import expect
from faults.load import CONFIG
from faults.scene import NODES, SETTLED_S, Scene
from support.processes.hub import API_KEY, SECRET, HubProcess, token
from support.waiting import wait_until
from tidings import Emitter

_REVOKED, _OTHER = "revoked-user", "other-user"
_STAGING_USERS = 25
_HUB = f'secret = "{SECRET}"\napi_keys = ["{API_KEY}"]\n' + CONFIG


def forget_revocations(scene: Scene) -> None:
    """Redis restarts empty, then one node after the other is killed: a revocation stays in force on both."""
    with Emitter(scene.broker, timeout_s=20.0) as emitter:
        result = emitter.revoke(user=_REVOKED, for_s=3600)
    if result.nodes != len(scene.nodes):
        raise AssertionError(f"{result.nodes} nodes have the revocation")
    scene.run_load(5)
    scene.redis.kill()
    scene.run_load(2)
    scene.redis.start()
    for node in reversed(scene.nodes):
        scene.wait_for_nodes()
        wait_until(lambda: _stored(scene) == 1, within_s=SETTLED_S, why="the revocation is written back")
        node.stop()
        node.start()
        expect(node, token(_REVOKED, "load:*"), (403, "revoked"))
        expect(node, token(_OTHER, "load:*"), (200, ""))
        scene.run_load(5)
    scene.nginx.restart()
    scene.run_load(5)
    scene.wait_for_clients()
    scene.wait_for_deliveries()


def _stored(scene: Scene) -> int:
    with scene.redis.client() as client:
        return int(client.hlen("tidings:{0}:revoked"))


def cross_databases(scene: Scene) -> None:
    """A hub with the same prefix and node id, in another database: its commands and publications act there alone."""
    staging_url = scene.redis.url.removesuffix("/0") + "/1"
    folder = scene.folder / "staging"
    folder.mkdir()
    staging = HubProcess(folder, "--broker", staging_url, "--node-id", NODES[0], config=_HUB).start()
    reconnects = scene.count("ready")
    # A command waits 0.25 s for nodes that never reply: those of the other database.
    users = min(scene.load.clients, _STAGING_USERS)
    try:
        with Emitter(staging_url, timeout_s=20.0) as emitter:
            for number in range(users):
                user, channel = f"user-{number}", scene.load.names()[number % scene.load.channels]
                results = [
                    emitter.subscribe(user=user, channel="load:staging"),
                    emitter.unsubscribe(user=user, channel=channel),
                    emitter.disconnect(user=user),
                    emitter.revoke(user=user, for_s=3600),
                ]
                if [(result.nodes, result.connections, result.missing) for result in results] != [(1, 0, ())] * 4:
                    raise AssertionError(f"the commands of staging acted elsewhere: {results}")
                emitter.emit("n", {"id": f"staging-{number}"}, channel=channel)
        scene.run_load(10)
        for node in scene.nodes:
            ignored = node.metric("tidings_control_foreign_total")
            if ignored < 4 * users:
                raise AssertionError(f"a node ignored {ignored} commands of the other database")
            if node.metric("tidings_revoked_total") or node.metric("tidings_revocations"):
                raise AssertionError("a revocation of the other database is in force")
    finally:
        staging.stop()
    if scene.count("ready") != reconnects:
        raise AssertionError("clients were disconnected")
    scene.wait_for_nodes()
    scene.wait_for_deliveries()
