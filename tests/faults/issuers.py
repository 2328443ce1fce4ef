"""Faults of an issuer whose key set the nodes fetch."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator

from faults.scene import SETTLED_S, Scene
from support.network.issuer import key_set, sign_in, token_by
from support.network.scripted_server import answering, closing_after, dripping, response
from support.processes.hub import HubProcess, token
from support.waiting import wait_until

_CHANNEL = "load:1"
_HOSTILE = 40
# After a failed fetch the next one follows in this time (`REFETCH_S`), and after a good one at `cache_s`.
_REFETCH_S = 30.0


@contextlib.contextmanager
def hostile_tokens(scene: Scene) -> Iterator[list[int]]:
    """Sign in with unknown kids, on all nodes, all the time. Yields the statuses."""
    statuses: list[int] = []
    stopped = threading.Event()

    def attack(number: int) -> None:
        bearer, port = token_by(f"x{number}", _CHANNEL), scene.nodes[number % 2].port
        while not stopped.wait(0.2):
            # A node closes without a response after too many invalid tokens of one address.
            with contextlib.suppress(OSError, ValueError):
                statuses.append(sign_in(port, bearer, _CHANNEL)[0])

    threads = [threading.Thread(target=attack, args=(number,)) for number in range(_HOSTILE)]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


def expect(node: HubProcess, bearer: str, answer: tuple[int, str]) -> None:
    """Check the answer of a node to a token. Raises AssertionError with the answer."""
    actual = sign_in(node.port, bearer, _CHANNEL)
    if actual != answer:
        raise AssertionError(f"{actual} instead of {answer}")


def drip_key_set(scene: Scene) -> None:
    """The issuer responds one byte at a time, while clients with its unknown keys sign in without end."""
    scene.run_load(10)
    scene.issuer.script = dripping(b"HTTP/1.1 200 OK\r\nX: ")
    with hostile_tokens(scene) as statuses:
        for _ in range(3):
            scene.nginx.restart()
            scene.run_load(5)
            scene.wait_for_clients()
            for node in scene.nodes:
                expect(node, token("ann", _CHANNEL), (200, ""))
                expect(node, token_by("k1", _CHANNEL), (200, ""))
            scene.wait_for_nodes()
            # Longer than the time between two fetches.
            scene.run_load(15)
    if not statuses or 200 in statuses:
        raise AssertionError(f"answers to invalid tokens: {Counter(statuses)}")
    scene.wait_for_deliveries()


def garble_key_set(scene: Scene) -> None:
    """The issuer sends what is no HTTP. Then it has removed a key: the nodes reject it, as no task of theirs ended."""
    scene.issuer.script = closing_after(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n")
    for node in scene.nodes:
        wait_until(lambda node=node: node.metric("tidings_jwks_errors_total") > 0, within_s=SETTLED_S, why="an error")
        expect(node, token_by("k1", _CHANNEL), (200, ""))
    scene.issuer.script = closing_after(b"220 mail.example ESMTP\r\n\r\n")
    scene.run_load(_REFETCH_S)
    scene.issuer.script = answering(response(key_set("k2")))
    for node in scene.nodes:
        # `unavailable` until the next fetch: the issuer may have published a key of this name since the last one.
        wait_until(
            lambda node=node: (
                sign_in(node.port, token_by("k1", _CHANNEL), _CHANNEL) in ((401, "unauthorized"), (503, "unavailable"))
            ),
            within_s=SETTLED_S,
            why="the removed key is not accepted",
        )
        expect(node, token_by("k2", _CHANNEL), (200, ""))
    scene.wait_for_clients()
    scene.wait_for_deliveries()
