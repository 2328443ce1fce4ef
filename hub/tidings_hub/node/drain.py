"""Shutdown of a node, from the `draining` flag to the stopped broker (docs/architecture.md#shutdown).

1. Fail readiness, stop taking queue messages, wait `drain_notice_s`.
2. Stop accepting connections, close the existing ones in batches over `drain_s`.
3. Remove the node's lease and its record.
4. Wait for the last responses, then stop every part.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from tidings_hub import runtime
from tidings_hub.brokers.base import Broker
from tidings_hub.config.settings import Settings
from tidings_hub.engine.server import EngineServer
from tidings_hub.ingress import QueueIngress
from tidings_hub.ingress.listener import Listener
from tidings_hub.metrics import Metrics
from tidings_hub.node.heartbeat import NodeHeartbeat
from tidings_hub.node.membership import Membership
from tidings_hub.services.client_connection import Connection
from tidings_hub.services.hub import Hub

logger = logging.getLogger("tidings")

# Seconds that clients have to read their last responses, and hooks to learn of the last disconnects.
_LAST_RESPONSES_S = 2.0
_POLL_S = 0.05


class Draining(Protocol):
    """The parts of a node that a shutdown ends; `node.serve.Node` has them."""

    @property
    def settings(self) -> Settings:
        """For `drain_notice_s` and `drain_s`."""

    @property
    def metrics(self) -> Metrics:
        """`metrics.draining` is the node's only `draining` flag; readiness reads it as well."""

    @property
    def hub(self) -> Hub:
        """Owns the sessions."""

    @property
    def broker(self) -> Broker:
        """Stops last but one: the parts before it still write to it."""

    @property
    def engine(self) -> EngineServer:
        """Owns the connections."""

    @property
    def ingress(self) -> Sequence[QueueIngress]:
        """Consumers of queues."""

    @property
    def pubsub_ingress(self) -> Sequence[Listener]:
        """Subscribers of compatibility formats."""

    @property
    def membership(self) -> Membership | None:
        """None: no other node can reach this one."""

    @property
    def heartbeat(self) -> NodeHeartbeat | None:
        """None: the node has not started."""


def drain(node: Draining, *, on_stopped: Callable[[], object]) -> None:
    """Shut the node down; returns when it has stopped. A second call returns immediately.

    Takes `drain_notice_s`, up to `drain_s`, and up to 2 s for the last responses.
    """
    if node.metrics.draining:
        return
    node.metrics.draining = 1
    try:
        # The next node takes the leases of the compatibility formats while this node's clients leave.
        for listener in node.pubsub_ingress:
            runtime.spawn(listener.stop)
        _close_connections(node)
        _withdraw(node)
        _await_last_responses(node)
    except (Exception, runtime.Interruption):
        logger.exception("unexpected error while draining; stopping at once")
    finally:
        try:
            _stop(node)
        finally:
            # Without this call the process would wait for ever.
            on_stopped()


def _close_connections(node: Draining) -> None:
    settings = node.settings
    notice_s = 0.0 if settings.dev else settings.drain_notice_s
    logger.info("draining: accepting for %s s more, then over %s s", notice_s, settings.drain_s)
    # Other nodes take new queue messages from now on. Messages that this node has taken are still processed.
    for queue in node.ingress:
        queue.stop_consuming()
    # `/readyz` fails now, so a load balancer sends no new clients. Everything else still works.
    runtime.sleep(notice_s)
    node.engine.stop_accepting()
    node.engine.drain(settings.drain_s, partial(_close, node.hub))


def _close(hub: Hub, connection: Connection) -> None:
    if connection.closed:
        return
    if hub.has_session(connection):
        hub.disconnect(connection, "draining", "this node is shutting down; reconnect")
    else:
        connection.close("draining")


def _withdraw(node: Draining) -> None:
    if node.membership is not None:
        # This node has no sessions left, so the other nodes may answer for them with "unknown session".
        node.membership.leave()
    if node.heartbeat is not None:
        node.heartbeat.withdraw()
    if node.engine.relay is not None:
        node.engine.relay.fail_all()


def _await_last_responses(node: Draining) -> None:
    end_s = runtime.now_s() + _LAST_RESPONSES_S
    while runtime.now_s() < end_s and not (node.engine.is_flushed() and _are_disconnects_reported(node.hub)):
        runtime.sleep(_POLL_S)


def _are_disconnects_reported(hub: Hub) -> bool:
    return "disconnect" not in hub.authorizers.handles or not (hub.sessions() or hub.authorizers.pending())


def _stop(node: Draining) -> None:
    queues = [queue.stop for queue in node.ingress]
    services = (node.hub.presence.stop, node.hub.session_store.stop, node.hub.revocations.stop)
    for stop in (*queues, *services, node.broker.stop, node.engine.stop):
        try:
            stop()
        except (Exception, runtime.Interruption):
            logger.exception("unexpected error in the shutdown; stopping the other parts")
