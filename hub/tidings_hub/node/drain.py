"""How a node goes away: readiness first, then its connections in batches, then its lease, then its sockets."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from tidings_hub import runtime

if TYPE_CHECKING:
    from tidings_hub.node.serve import Node

logger = logging.getLogger("tidings")

# Small batches, so that the nodes that take these clients over are not hit all at once.
_STEP_S = 0.05
# How long the last answers may take to be read, and those who want to know to be told who has gone.
_LAST_S = 2.0


def drain(node: Node) -> None:
    """Let everybody leave, and close what is left. Takes `drain_notice_s`, at most `drain_s`, and a moment."""
    settings = node.settings
    notice_s = 0.0 if settings.dev else settings.drain_notice_s
    logger.info("draining: accepting for %s s more, then over %s s", notice_s, settings.drain_s)
    # Other nodes take what comes into the queues from now on; what was taken here is settled meanwhile.
    for each in node.ingress:
        each.stop_consuming()
    # A balancer sees /readyz fail and sends nobody new, while everything still works.
    runtime.sleep(notice_s)
    node.engine.stop_accepting()
    _tell_leaving(node)
    node.engine.drain(0, "draining")
    if node.membership is not None:
        # Nobody has a session here any more: the others may say so at once.
        node.membership.leave()
    if node.heartbeat is not None:
        node.heartbeat.withdraw()
    if node.engine.relay is not None:
        node.engine.relay.give_up()
    _settle(node)


def _tell_leaving(node: Node) -> None:
    """End the sessions in batches spread over `drain_s`, each told to come back. Waiting polls are answered."""
    leaving = [session.connection for session in node.hub.sessions()]
    steps = max(1, int(node.settings.drain_s / _STEP_S))
    size = max(1, -(-len(leaving) // steps))
    for start in range(0, len(leaving), size):
        for connection in leaving[start : start + size]:
            node.hub.disconnect(connection, "draining", "this node is going away; connect again")
        runtime.sleep(_STEP_S)


def _settle(node: Node) -> None:
    end_s = runtime.now_s() + _LAST_S
    while runtime.now_s() < end_s and not (node.engine.settled() and _told(node)):
        runtime.sleep(_STEP_S)


def _told(node: Node) -> bool:
    return "disconnect" not in node.hub.authorizers.handles or not (
        node.hub.sessions() or node.hub.authorizers.pending()
    )
