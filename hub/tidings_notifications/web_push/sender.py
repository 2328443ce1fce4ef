"""The sender: one thread with an event loop keeps hundreds of pushes in flight."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from tidings_hub.config.web_push import WebPush
from tidings_notifications.core.delivery import Outcome, Retry
from tidings_notifications.metrics import ServiceMetrics
from tidings_notifications.web_push.client import Push, PushClient, PushMessage
from tidings_notifications.web_push.endpoints import origin_of
from tidings_notifications.web_push.host_lanes import HostLanes
from tidings_notifications.web_push.vapid import VapidKey

_POSTPONED: Final = "its push service does not respond"
_STOPPED: Final = "the sender was stopped"
_TICK_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Job:
    """A message. `done` receives its outcome, once, in the thread of the sender; it must not block."""

    message: PushMessage
    done: Callable[[Outcome], None]


class PushSender:
    """Sends messages. `run` is the target of its thread; `submit` and `stop` are for other threads.

    A message that waits for longer than `timeout_s` is postponed, so every message has an outcome within about three
    times that.
    """

    def __init__(self, options: WebPush, key: VapidKey, metrics: ServiceMetrics) -> None:
        self._options = options
        self._key = key
        self._metrics = metrics
        self._lock = threading.Lock()
        self._submitted: deque[Job] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wakeup: asyncio.Event | None = None
        self._is_stopping = False

    def submit(self, jobs: Iterable[Job]) -> None:
        """Let messages be sent. After `stop` they are postponed."""
        with self._lock:
            if not self._is_stopping:
                self._submitted.extend(jobs)
                jobs = ()
        for job in jobs:
            job.done(Retry(None, _STOPPED))
        self._wake()

    def stop(self) -> None:
        """Let the pushes in flight end, and postpone the others."""
        with self._lock:
            self._is_stopping = True
        self._wake()

    def run(self) -> None:
        """Send until `stop`. Blocks."""
        asyncio.run(self._run())

    def _wake(self) -> None:
        with self._lock:
            if self._loop is not None and self._wakeup is not None:
                self._loop.call_soon_threadsafe(self._wakeup.set)

    async def _run(self) -> None:
        lanes: HostLanes[Job] = HostLanes(total=self._options.connections, per_host=self._options.connections_per_host)
        with self._lock:
            self._loop, self._wakeup = asyncio.get_running_loop(), asyncio.Event()
        try:
            async with PushClient(self._options, self._key) as client, asyncio.TaskGroup() as pushes:
                await self._feed(_Round(client, lanes, pushes, self._metrics), self._wakeup)
        finally:
            for job in lanes.overdue(float("inf")):
                job.done(Retry(None, _STOPPED))
            with self._lock:
                self._loop = self._wakeup = None

    async def _feed(self, round_: _Round, wakeup: asyncio.Event) -> None:
        while not self._is_stopping:
            wakeup.clear()
            with self._lock:
                jobs, self._submitted = self._submitted, deque()
            round_.add(jobs)
            round_.postpone_overdue(self._options.timeout_s)
            try:
                async with asyncio.timeout(_TICK_S):
                    await wakeup.wait()
            except TimeoutError:
                continue
        with self._lock:
            jobs, self._submitted = self._submitted, deque()
        round_.stop(jobs)


class _Round:
    """The pushes of one event loop."""

    def __init__(
        self, client: PushClient, lanes: HostLanes[Job], pushes: asyncio.TaskGroup, metrics: ServiceMetrics
    ) -> None:
        self._client = client
        self._lanes = lanes
        self._pushes = pushes
        self._metrics = metrics

    def add(self, jobs: Iterable[Job]) -> None:
        """Let messages wait for their turn, and start what can start."""
        for job in jobs:
            self._lanes.add(origin_of(job.message.endpoint), job, time.monotonic())
        self._start()

    def postpone_overdue(self, wait_max_s: float) -> None:
        """Postpone messages that wait for longer."""
        self._postpone(self._lanes.overdue(time.monotonic() - wait_max_s), _POSTPONED)

    def stop(self, jobs: Iterable[Job]) -> None:
        """Start no further push, and postpone those that wait, and `jobs`."""
        self._postpone([*self._lanes.overdue(float("inf")), *jobs], _STOPPED)

    def _start(self) -> None:
        for host, job in self._lanes.start():
            self._pushes.create_task(self._push(host, job))
        self._metrics.pushes_in_flight.set(self._lanes.in_flight)

    async def _push(self, host: str, job: Job) -> None:
        started_s = time.monotonic()
        push = Push(Retry(None, _STOPPED))
        try:
            push = await self._client.push(job.message)
        finally:
            postponed = self._lanes.finish(host, is_healthy=push.is_healthy)
            self._metrics.push_s.observe(time.monotonic() - started_s)
            self._metrics.pushes.labels(type(push.outcome).__name__.lower()).inc()
            job.done(push.outcome)
            self._postpone(postponed, _POSTPONED)
        self._start()

    def _postpone(self, jobs: list[Job], reason: str) -> None:
        self._metrics.pushes_postponed.inc(len(jobs))
        for job in jobs:
            job.done(Retry(None, reason))
