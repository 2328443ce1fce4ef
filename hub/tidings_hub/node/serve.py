"""Assembles a node from its settings and runs it until SIGTERM. Only `cli` imports this."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import cast

from tidings.errors import BadConfig, TidingsError
from tidings_hub import runtime
from tidings_hub.brokers import open_broker
from tidings_hub.brokers.pattern_link import PatternSubscriber
from tidings_hub.config.settings import Settings
from tidings_hub.core.node_directory import NodeDirectory
from tidings_hub.core.relay_stamp import stamp_key
from tidings_hub.engine.fanout import deliver
from tidings_hub.engine.relay.upstream import UNIX
from tidings_hub.engine.server import EngineServer
from tidings_hub.ingress import open_ingress
from tidings_hub.ingress.dispatcher import Dispatcher
from tidings_hub.ingress.pubsub import open_pubsub_ingress
from tidings_hub.metrics import Metrics
from tidings_hub.node.aggregation import WorkerAggregation
from tidings_hub.node.api import LocalNodeApi
from tidings_hub.node.drain import drain
from tidings_hub.node.heartbeat import NodeHeartbeat
from tidings_hub.node.limits import broker_limits, engine_limits, engine_options
from tidings_hub.node.membership import Membership, resolve_address
from tidings_hub.node.profiler import Profiler
from tidings_hub.node.readiness import Readiness
from tidings_hub.node.reload import apply_reload
from tidings_hub.node.user_code import UserCode
from tidings_hub.node.worker import Worker
from tidings_hub.services.client_connection import FanOut
from tidings_hub.services.commands import Commands
from tidings_hub.services.hub import Hub
from tidings_hub.socketio.events import ClientEvents
from tidings_hub.socketio.server import HubServer
from tidings_hub.web.app import create_app
from tidings_hub.web.sse import EventStreams

logger = logging.getLogger("tidings")

# Commands to all nodes that this node executes concurrently.
_COMMANDS = 16
# Seconds between two checks for key sets that are due (`cache_s`).
_KEYS_CHECK_S = 5.0


class Node:
    """One hub process: everything that `tidings serve` runs."""

    def __init__(self, settings: Settings, worker: Worker | None = None) -> None:
        self.settings = settings
        self._worker = worker
        self.metrics = Metrics()
        self._pool = runtime.Pool(settings.handlers, settings.handler_queue)
        self._user_code = UserCode(settings, self.metrics)
        self.broker = open_broker(settings, broker_limits(settings), self.metrics)
        self.engine = EngineServer(
            engine_limits(settings),
            metrics=self.metrics,
            log=logging.getLogger("tidings.engine"),
            node_id=settings.node_id,
        )
        self._keys = settings.key_set()
        self.hub = Hub(
            settings,
            self.broker,
            settings.access(),
            self._keys,
            fan_out=cast("FanOut", deliver),
            metrics=self.metrics,
        )
        self.ingress = open_ingress(settings, self.hub.publish, self.metrics)
        self.readiness = Readiness(
            self.hub,
            now_s=runtime.now_s,
            sleep=runtime.sleep,
            pump_alive=self.engine.pump.is_alive,
            greenlets=lambda: runtime.live_greenlets() + self._pool.running,
            ingress=lambda: {queue.name: queue.state() for queue in self.ingress},
        )
        # A separate pool: commands must run even when clients keep all handlers busy.
        self._command_pool = runtime.Pool(_COMMANDS, settings.handler_queue)
        self.commands = Commands(self.hub, self._command_pool.submit)
        self.hub.on_command = self.commands.on_command
        self.api = LocalNodeApi(self.hub, self.readiness, self.commands)
        self.pubsub_ingress = open_pubsub_ingress(
            settings,
            self.broker,
            Dispatcher(self.api.publish, self.api.run_command, self.metrics, batch_max=settings.max_batch),
            open_source=partial(PatternSubscriber, link_max_bytes=settings.link_max_bytes),
        )
        self.heartbeat: NodeHeartbeat | None = None
        self._stopped = threading.Event()
        self.membership = self._set_up_relay()
        self._mount()

    def _set_up_relay(self) -> Membership | None:
        """Set up the relay and the membership; None if this node can reach no other node."""
        settings, siblings = self.settings, self._worker.addresses if self._worker is not None else {}
        if not settings.advertise and len(siblings) < 2:
            return None
        nodes = NodeDirectory(settings.node_id, siblings, silent_s=settings.lease_s)
        membership = Membership(self.broker, nodes, lease_s=settings.lease_s)
        keys = [stamp_key(secret) for secret in settings.relay_secrets()]
        self.engine.enable_relay(
            nodes, keys, request_refresh=membership.refresh_soon, cluster_time_s=membership.cluster_time_s
        )
        return membership

    def _mount(self) -> None:
        settings = self.settings
        events = ClientEvents(self.hub)
        sockets = HubServer(
            pool=self._pool,
            spawn=runtime.spawn,
            metrics=self.metrics,
            max_attachment_bytes=settings.max_payload_bytes,
            on_connected=events.on_connected,
            app_events=self._user_code.on_app_event,
            pools=self._user_code.pools,
        )
        events.register(sockets)
        self.engine.mount("/socket.io/", sockets, engine_options(settings))
        streams = EventStreams(self.hub, self._user_code.pools.get("connect", self._pool))
        self.engine.mount_sse("/sse", streams, engine_options(settings))
        self._user_code.attach(self.hub, self.api, sockets)
        app = self._user_code.with_user_wsgi(create_app(self.api))
        aggregation = (
            None if self._worker is None or self.engine.relay is None else WorkerAggregation(app, self.engine.relay)
        )
        self.engine.mount_wsgi(aggregation or app)

    def start(self) -> int:
        """Start to serve; returns the port."""
        settings, worker, relay = self.settings, self._worker, self.engine.relay
        self.broker.write_rules(settings.broker_rules())
        self.broker.start(self.hub)
        self.hub.presence.start()
        self.hub.session_store.start()
        address = settings.advertise
        if worker is not None:
            address = worker.advertise(address)
            self.engine.listen_unix(worker.addresses[settings.node_id].removeprefix(UNIX))
            if address:
                self.engine.listen(settings.host, int(address.rpartition(":")[2]))
        if self.membership is not None and relay is not None:
            # Before the first client connects: other nodes that get a session id of this node must find its lease.
            self.membership.join(relay, resolve_address(address) if address else "")
        port = self.engine.listen(settings.host, settings.port, shares_port=worker is not None)
        self.engine.start()
        self.heartbeat = NodeHeartbeat(self.hub, address=f"{self.settings.host}:{port}", sleep=runtime.sleep)
        runtime.spawn(self.heartbeat.run)
        runtime.spawn(self.readiness.watch)
        runtime.spawn(self._run_every_second)
        runtime.spawn(self._refresh_keys)
        self._user_code.start()
        for queue in self.ingress:
            queue.start()
        for listener in self.pubsub_ingress:
            listener.start()
        return port

    def _run_every_second(self) -> None:
        while True:
            runtime.sleep(1)
            try:
                self.hub.tick()
            except Exception:
                logger.exception("unexpected error in the tick of every second; continuing")

    def _refresh_keys(self) -> None:
        """Fetch key sets when they are due, so that this node rejects keys that an issuer has removed."""
        while True:
            for error in () if self._keys is None else self._keys.refresh(now_s=runtime.unix_s()):
                self.metrics.jwks_errors += 1
                logger.warning("%s", error)
            runtime.sleep(_KEYS_CHECK_S)

    def drain(self) -> None:
        """Shut down as `node.drain` describes. A second call returns immediately."""
        drain(self, on_stopped=self._stopped.set)

    def reload(self, load: Callable[[], Settings]) -> None:
        """Load the settings and apply their rules and keys. If the settings are invalid, nothing changes."""
        try:
            new = load()
            new.check_serving()
            keys, secrets = new.key_set(), new.relay_secrets()
            settings, need_restart = apply_reload(self.settings, new)
            self._keys = keys
            self.hub.apply_settings(settings, keys)
            self.settings = settings
            if self.engine.relay is not None and secrets:
                self.engine.relay.keys = [stamp_key(secret) for secret in secrets]
            self.broker.write_rules(settings.broker_rules())
        except TidingsError as error:
            self.metrics.reload_errors += 1
            logger.error("the settings were not reloaded: %s", error)  # noqa: TRY400 - the message is enough
            return
        self.metrics.reloads += 1
        logger.info(
            "rules and keys were reloaded%s",
            f"; these need a restart: {', '.join(need_restart)}" if need_restart else "",
        )

    def wait(self) -> None:
        """Wait until the node has stopped."""
        self._stopped.wait()


def run(
    settings: Settings, *, load: Callable[[], Settings], worker: Worker | None = None, profile: Profiler | None = None
) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code. Call it after `runtime.patch()`.

    On SIGHUP, `load` reads the settings again.
    """
    node = Node(settings, worker)
    try:
        port = node.start()
    except OSError as error:
        raise BadConfig(f"cannot listen on {settings.host}:{settings.port}: {error.strerror}") from error
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: runtime.call_soon(runtime.spawn, node.drain))
    signal.signal(signal.SIGHUP, lambda *_: runtime.call_soon(runtime.spawn, node.reload, load))
    if worker is not None:
        _end_with_supervisor(node)
    for warning in settings.insecure_options():
        logger.warning("INSECURE: %s", warning)
    logger.info("node %s listens on http://%s:%d/, broker %s", settings.node_id, settings.host, port, node.broker.name)
    sys.stdout.write(f"tidings: http://{settings.host}:{port}/\n")
    sys.stdout.flush()
    # These objects stay for the life of the process: the collector can skip them.
    gc.collect()
    gc.freeze()
    if profile is not None:
        profile.start()
    node.wait()
    if profile is not None:
        profile.write()
    return 0


def _end_with_supervisor(node: Node) -> None:
    """Drain when standard input ends: it is a pipe from the supervisor, so the supervisor has ended."""
    fd = 0

    def on_readable(_fd: int) -> None:
        if not runtime.original("os").read(fd, 4096):
            runtime.unwatch(fd)
            runtime.spawn(node.drain)

    os.set_blocking(fd, False)
    runtime.watch(fd, on_readable)
