"""Assembles a node from its settings and runs it until SIGTERM. Only `cli` imports this."""

from __future__ import annotations

import gc
import logging
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import cast

from tidings.errors import BadConfig
from tidings_hub import runtime
from tidings_hub.brokers import open_broker
from tidings_hub.brokers.pattern_link import PatternSubscriber
from tidings_hub.config.settings import Settings
from tidings_hub.core.node_directory import NodeDirectory
from tidings_hub.core.relay_stamp import stamp_key
from tidings_hub.engine.fanout import deliver, replay
from tidings_hub.engine.protocols.http_host import LocalHosts
from tidings_hub.engine.relay.upstream import UNIX
from tidings_hub.engine.server import EngineServer
from tidings_hub.ingress import QueueIngress, open_ingress
from tidings_hub.ingress.dispatcher import Dispatcher
from tidings_hub.ingress.pubsub import open_pubsub_ingress
from tidings_hub.metrics import Metrics, render
from tidings_hub.node.aggregation import WorkerAggregation
from tidings_hub.node.api import LocalNodeApi
from tidings_hub.node.drain import drain
from tidings_hub.node.heartbeat import NodeHeartbeat
from tidings_hub.node.key_refresh import KeyRefresh
from tidings_hub.node.limits import broker_limits, engine_limits, engine_options
from tidings_hub.node.membership import Membership
from tidings_hub.node.notification_watch import NotificationWatch
from tidings_hub.node.open_files import fit_open_files
from tidings_hub.node.profiler import Profiler
from tidings_hub.node.queues import connect_queue, inbox_bounds
from tidings_hub.node.readiness import Readiness
from tidings_hub.node.reload import Reloads
from tidings_hub.node.user_code import UserCode
from tidings_hub.node.worker import Worker
from tidings_hub.node.worker_beats import on_supervisor_end, report_listening, start_beats
from tidings_hub.services.backend_notifications import BackendNotifications
from tidings_hub.services.client_connection import FanOut, Replay
from tidings_hub.services.commands import Commands
from tidings_hub.services.hub import Hub
from tidings_hub.socketio.events import ClientEvents
from tidings_hub.socketio.inbox_events import InboxEvents
from tidings_hub.socketio.server import HubServer
from tidings_hub.supervised_task import SupervisedTask, WorkerErrors
from tidings_hub.web.app import create_app
from tidings_hub.web.direct import DirectApi
from tidings_hub.web.inbox_views import INBOX_PATHS
from tidings_hub.web.path_dispatcher import HubPaths
from tidings_hub.web.sse import EventStreams

logger = logging.getLogger("tidings")

# Commands to all nodes that this node executes concurrently.
_COMMANDS = 16
# New objects after which the collector looks for cycles among them. CPython's 700 are those of ten connections, which
# stay: looking at them costs a tenth of a connect. So many objects need about 1 MB.
_YOUNG_OBJECTS = 10_000
# Greenlets of each of the hub's own pools that wait for the next call. Each holds about 15 KB.
_IDLE_GREENLETS = 64
# How long a node that starts waits for the revocations before it listens. A broker in reach needs milliseconds. Without
# one the node serves its probes, and clients get `unavailable`.
_FIRST_READ_S = 5.0


class Node:
    """One hub process: everything that `tidings serve` runs."""

    def __init__(self, settings: Settings, worker: Worker | None = None) -> None:
        self.settings = settings
        self._worker = worker
        self.metrics = Metrics()
        self.metrics.workers = settings.workers
        self._pool = self._new_pool("events", settings.handlers, settings.handler_queue)
        # A pool of its own: when thousands of clients reconnect, the events of the other clients do not wait for them.
        self._connect_pool = self._new_pool("connects", settings.handlers, settings.connect_queue)
        self._connects = connect_queue(settings, self.metrics)
        self._user_code = UserCode(settings, self.metrics)
        self.broker = open_broker(settings, broker_limits(settings), self.metrics)
        self.engine = self._open_engine()
        self.key_refresh = KeyRefresh(settings.key_set(), self.metrics, sleep=runtime.sleep)
        self.hub = Hub(
            settings,
            self.broker,
            settings.access(),
            self.key_refresh.keys,
            fan_out=cast("FanOut", deliver),
            replay=cast("Replay", replay),
            metrics=self.metrics,
        )
        self.ingress = self._open_queues()
        self._notification_watch = NotificationWatch(self.hub.inbox.link, self.metrics, sleep=runtime.sleep)
        self.readiness = Readiness(
            self.hub,
            now_s=runtime.now_s,
            sleep=runtime.sleep,
            pump_alive=self.engine.pump.is_alive,
            greenlets=lambda: runtime.live_greenlets() + self._pool.running + self._connect_pool.running,
            ingress=lambda: {queue.name: queue.state() for queue in self.ingress},
            keys=self.key_refresh.states,
            notifications=self._notification_watch.state,
            address_error=lambda: "" if self.membership is None else self.membership.address_error(),
        )
        # A separate pool: commands must run even when clients keep all handlers busy.
        self._command_pool = self._new_pool("commands", _COMMANDS, settings.handler_queue)
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

    def _open_queues(self) -> list[QueueIngress]:
        settings = self.settings
        # Their notifications do not wait for those of backends over HTTP.
        handover = BackendNotifications(self.hub.inbox, self.metrics, size=max(1, len(settings.ingress.queues)))
        return open_ingress(settings, self.hub.publish, handover.store, self.broker.acquire_lease, self.metrics)

    def _open_engine(self) -> EngineServer:
        settings = self.settings
        limits = fit_open_files(
            engine_limits(settings),
            relays=bool(settings.advertise) or self._worker is not None,
            level=logging.INFO if settings.dev else logging.WARNING,
        )
        return EngineServer(
            limits,
            metrics=self.metrics,
            log=logging.getLogger("tidings.engine"),
            node_id=settings.node_id,
            hosts=LocalHosts(settings.origins) if settings.dev else None,
        )

    def _set_up_relay(self) -> Membership | None:
        """Set up the relay and the membership; None if this node can reach no other node."""
        settings, siblings = self.settings, self._worker.addresses if self._worker is not None else {}
        if not settings.advertise and len(siblings) < 2:
            return None
        nodes = NodeDirectory(settings.node_id, siblings, silent_s=settings.lease_s)
        membership = Membership(self.broker, nodes, self.metrics, lease_s=settings.lease_s)
        keys = [stamp_key(secret) for secret in settings.relay_secrets()]
        self.engine.enable_relay(
            nodes, keys, request_refresh=membership.refresh_soon, cluster_time_s=membership.cluster_time_s
        )
        return membership

    def _mount(self) -> None:
        settings = self.settings
        events = ClientEvents(self.hub)
        pools = {"connect": self._connect_pool, **self._user_code.pools}
        sockets = HubServer(
            pool=self._pool,
            spawn=runtime.spawn,
            metrics=self.metrics,
            max_attachment_bytes=settings.max_payload_bytes,
            on_connected=events.on_connected,
            connects=self._connects,
            inboxes=inbox_bounds(settings, self.metrics),
            pools=pools,
        )
        inbox_events = InboxEvents(self.hub.inbox, settings.notifications, self.metrics)
        sockets.on_app_event = inbox_events.before(self._user_code.on_app_event)
        events.register(sockets)
        self.engine.mount("/socket.io/", sockets, engine_options(settings))
        streams = EventStreams(self.hub, pools["connect"], self._connects)
        self.engine.mount_sse("/sse", streams, engine_options(settings))
        self._user_code.attach(self.hub, self.api, sockets)
        pusher = settings.ingress.pusher
        hub_paths = HubPaths("" if pusher is None else pusher.app_id, has_inbox=self.hub.inbox.has_service)
        app = self._user_code.with_user_wsgi(create_app(self.api), hub_paths)
        aggregation = (
            None if self._worker is None or self.engine.relay is None else WorkerAggregation(app, self.engine.relay)
        )
        shared = dict.fromkeys(INBOX_PATHS, engine_options(settings)) if self.hub.inbox.has_service else {}
        self.engine.mount_wsgi(
            aggregation or app, workload_of=hub_paths.workload_of, shared=shared, direct=DirectApi(self.api)
        )

    def start(self) -> int:
        """Start to serve; returns the port."""
        settings, worker, relay = self.settings, self._worker, self.engine.relay
        render(self.metrics, node=settings.node_id)  # It loads modules, which fails at the limit of open files.
        self.hub.revocations.start()
        self.key_refresh.fetch_first()
        self.broker.write_rules(settings.broker_rules())
        self.broker.start(self.hub)
        self.hub.presence.start()
        self.hub.session_store.start()
        if not self.hub.revocations.wait_until_read(_FIRST_READ_S):
            logger.warning("the revocations could not be read yet: clients are refused until this node has read them")
        address = settings.advertise
        if worker is not None and worker.has_siblings:
            address = worker.advertise(address)
            self.engine.listen_unix(worker.addresses[settings.node_id].removeprefix(UNIX))
            if address:
                self.engine.listen(settings.host, int(address.rpartition(":")[2]))
        if self.membership is not None and relay is not None:
            # Before the first client connects: other nodes that get a session id of this node must find its lease.
            self.membership.join(relay, address)
        port = self.engine.listen(settings.host, settings.port, shares_port=worker is not None)
        self.engine.start()
        self.heartbeat = NodeHeartbeat(self.hub, address=f"{self.settings.host}:{port}", sleep=runtime.sleep)
        self._spawn_supervised("heartbeat", self.heartbeat.run)
        self._spawn_supervised("readiness", self.readiness.watch)
        self._spawn_supervised("readiness_details", self.readiness.watch_details)
        self._spawn_supervised("tick", self._run_every_second)
        self._spawn_supervised("keys", self.key_refresh.run)
        if self.hub.inbox.has_service:
            self._spawn_supervised("notifications", self._notification_watch.run)
        self._user_code.start()
        for queue in self.ingress:
            queue.start()
        for listener in self.pubsub_ingress:
            listener.start()
        return port

    def _new_pool(self, name: str, size: int, queue_max: int) -> runtime.Pool:
        # Its calls are the hub's own handlers. User code has pools of its own.
        return runtime.Pool(size, queue_max, on_error=WorkerErrors(name, self.metrics), idle_max=_IDLE_GREENLETS)

    def _spawn_supervised(self, name: str, run: Callable[[], object]) -> None:
        runtime.spawn(SupervisedTask(name, run, self.metrics))

    def _run_every_second(self) -> None:
        while True:
            runtime.sleep(1)
            try:
                self._connects.tick()
                self.hub.tick()
            except Exception:
                logger.exception("unexpected error in the tick of every second; continuing")

    def drain(self) -> None:
        """Shut down as `node.drain` describes. A second call returns immediately."""
        drain(self, on_stopped=self._stopped.set)

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
    if worker is not None:
        # Before the start, which may wait for key sets.
        start_beats(worker.beat_fd, node.metrics)
        node.metrics.worker_restarts, node.metrics.worker_hangs = worker.restarts, worker.hangs
    try:
        port = node.start()
    except OSError as error:
        raise BadConfig(f"cannot listen on {settings.host}:{settings.port}: {error.strerror}") from error
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: runtime.call_soon(runtime.spawn, node.drain))
    reloads = Reloads(node, load)
    signal.signal(signal.SIGHUP, lambda *_: runtime.call_soon(runtime.spawn, reloads.run))
    if worker is not None:
        on_supervisor_end(node.drain)
    for warning in settings.insecure_options():
        logger.warning("INSECURE: %s", warning)
    logger.info("node %s listens on http://%s:%d/, broker %s", settings.node_id, settings.host, port, node.broker.name)
    if worker is not None:
        report_listening(worker.beat_fd)
    else:
        sys.stdout.write(f"tidings: http://{settings.host}:{port}/\n")
        sys.stdout.flush()
    # These objects stay for the life of the process: the collector can skip them.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, *gc.get_threshold()[1:])
    if profile is not None:
        profile.start()
    node.wait()
    if profile is not None:
        profile.write()
    return 0
