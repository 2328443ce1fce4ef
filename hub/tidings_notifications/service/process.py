"""One service process: starts the parts in threads, and drains at SIGTERM."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

from tidings_hub.config.installation import installation_of
from tidings_hub.config.notifications import listen_address, service_keys
from tidings_hub.config.settings import Settings
from tidings_notifications.api.app import NotificationApi
from tidings_notifications.api.push_views import PushViews
from tidings_notifications.service.http_server import HttpServer, bind
from tidings_notifications.service.parts import ServiceParts, ServiceTarget, consumer_name
from tidings_notifications.store.database import Database
from tidings_notifications.store.schema import migrate, prepare
from tidings_notifications.supervised_task import SupervisedTask

logger = logging.getLogger("tidings.notifications")

_POLL_S: Final = 1.0


def migrate_database(url: str) -> str:
    """Bring the tables of a database to this version. Returns a line about the result.

    Raises:
        BadConfig: they are of a newer version, or the URL is wrong. Unavailable: the database failed.
    """
    database = Database(url)
    try:
        migrate(database)
    finally:
        database.close()
    return "the tables are up to date"


def run(
    settings: Settings, url: str, *, prefix: str, api_key: str | None, beat: Callable[[], None] | None = None
) -> int:
    """Run the service until SIGTERM or SIGINT, then drain. Returns the exit code.

    `url`: the hub's Redis, with its key `prefix`, or the hub itself over HTTP, with an `api_key`.
    `beat`: only of a child of a supervisor, which expects such a sign of life every second. The child also drains when
    standard input ends: it is a pipe from the supervisor, which has then ended.

    Raises:
        BadConfig: a setting is wrong, the address is in use, or the tables are of another version.
        Unavailable: the database failed.
    """
    options = settings.notifications
    with ExitStack() as resources:
        listening = resources.enter_context(bind(*listen_address(options.listen)))
        database = Database(options.database)
        resources.callback(database.close)
        prepare(database)
        parts = ServiceParts(settings, ServiceTarget(url, prefix, api_key), database, consumer=consumer_name(listening))
        resources.callback(parts.relay.close)
        process = ServiceProcess(parts, drain_s=settings.drain_s)
        api = NotificationApi(
            parts.inbox,
            parts.writer,
            PushViews(parts.subscriptions, parts.inbox, parts.push_settings, parts.metrics),
            keys=service_keys(settings),
            installation=installation_of(url, prefix),
            publication_max_bytes=settings.publication_max_bytes,
            metrics=parts.metrics,
            readiness=process.readiness,
        )
        server = HttpServer(
            api.create_app(),
            listening,
            threads=options.threads,
            connections=options.connections,
            request_max_bytes=options.request_max_bytes,
            admits=api.admits,
            metrics=parts.metrics,
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: process.request_stop())
        process.start(server)
        if beat is not None:
            process.stop_with_stdin()
            process.beat(server, beat)
        host, port = listening.getsockname()[:2]
        # Programs that start the service read the port in this line.
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
        print(f"notifications: {address}", flush=True)  # noqa: T201
        logger.info("the notification service listens on %s", address)
        process.wait()
        process.drain(server)
    return 0


class ServiceProcess:
    """The threads of one process. `drain_s`: the longest time for `drain`."""

    def __init__(self, parts: ServiceParts, *, drain_s: float) -> None:
        self._parts = parts
        self._drain_s = drain_s
        self._stop_requested = threading.Event()
        self._relay_thread = self._thread("relay", parts.relay.run)
        self._others = [self._thread("sweeper", parts.sweeper.run)]
        self._others += [self._thread(f"deliveries {name}", loop.run) for name, loop in parts.delivery_loops.items()]
        self._others += [self._thread(f"intake {consumer.name}", consumer.run) for consumer in parts.consumers]
        sender = parts.push_sender
        self._sender_thread = None if sender is None else self._thread("web push", sender.run)

    def start(self, server: HttpServer) -> None:
        """Start all threads."""
        for thread in (self._relay_thread, *self._others, self._thread("http", server.run)):
            thread.start()
        if self._sender_thread is not None:
            self._sender_thread.start()

    def request_stop(self) -> None:
        """End `wait`. For signal handlers."""
        self._stop_requested.set()

    def stop_with_stdin(self) -> None:
        """Request the stop when standard input ends."""
        self._thread("parent", self._read_stdin).start()

    def _read_stdin(self) -> None:
        while os.read(0, 4096):
            pass
        self.request_stop()

    def beat(self, server: HttpServer, beat: Callable[[], None]) -> None:
        """Call `beat` every second from now on, unless the HTTP server hangs. A slow database is no reason to end."""

        def run() -> None:
            while True:
                if server.is_turning:
                    beat()
                time.sleep(_POLL_S)

        self._thread("beats", run).start()

    def wait(self) -> None:
        """Wait until `request_stop`."""
        while not self._stop_requested.wait(_POLL_S):
            pass

    def readiness(self) -> tuple[bool, dict[str, object]]:
        """Whether the service can store notifications, and the state of each part."""
        database_error = self._parts.sweeper.database_error() or self._parts.writer.store_error()
        is_relaying, is_draining = self._relay_thread.is_alive(), self._stop_requested.is_set()
        checks: dict[str, object] = {
            "database": database_error or "ok",
            "relay": "ok" if is_relaying else "ended",
            "accepting": not is_draining,
        }
        # Information only: without Redis the service still answers nodes, and emitters receive errors from Redis.
        if self._parts.consumers:
            checks["intake"] = {consumer.name: consumer.last_error or "ok" for consumer in self._parts.consumers}
        return not database_error and is_relaying and not is_draining, checks

    def drain(self, server: HttpServer) -> None:
        """Finish what has begun: requests, batches, and their events. Entries that wait in Redis stay there."""
        deadline_s = time.monotonic() + self._drain_s
        logger.info("draining", extra={"drain_s": self._drain_s})
        server.stop(deadline_s)
        self._parts.stopping.set()
        for thread in self._others:
            thread.join(max(0.0, deadline_s - time.monotonic()))
        if self._parts.push_sender is not None and self._sender_thread is not None:
            self._parts.push_sender.stop()
            self._sender_thread.join(max(0.0, deadline_s - time.monotonic()))
        if self._parts.webhook_sender is not None:
            self._parts.webhook_sender.stop()
        for loop in self._parts.delivery_loops.values():
            loop.drain(deadline_s)
        self._parts.relay.drain(deadline_s)
        self._parts.relay.stop()
        self._relay_thread.join(max(0.0, deadline_s - time.monotonic()))
        logger.info("stopped")

    def _thread(self, name: str, run: Callable[[], object]) -> threading.Thread:
        task = SupervisedTask(name, run, metrics=self._parts.metrics, stopping=self._parts.stopping)
        return threading.Thread(target=task, name=name, daemon=True)
