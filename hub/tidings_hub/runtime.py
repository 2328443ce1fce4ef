"""The event loop, behind names of our own: the only file that imports eventlet.

One hub (eventlet's) runs timers, ordinary greenlets and one callback per watched
descriptor. Everything here may be called from any greenlet of the hub's thread, and
from no other thread. `patch()` comes before any other import of a program.
"""

from __future__ import annotations

import io
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, Protocol

# eventlet warns at import that it is in maintenance. We know: that is why it stands behind this file.
with warnings.catch_warnings():
    # The class of the warning cannot be imported before eventlet is; so by its text.
    warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")
    import eventlet
    import eventlet.event
    import eventlet.hubs
    import eventlet.patcher
    import eventlet.wsgi

import greenlet  # type: ignore[import-untyped]

if TYPE_CHECKING:
    import logging

    WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

_READ: Final = "read"
_TURN_MAX_S: Final = 0.005


def patch() -> None:
    """Make the standard library cooperative, on an epoll hub. Call it before any other import.

    `EVENTLET_HUB` in the environment chooses another hub.
    """
    if "EVENTLET_HUB" not in os.environ:
        eventlet.hubs.use_hub("epolls")
    eventlet.monkey_patch()


def original(name: str) -> ModuleType:
    """The module as it was before `patch()`: its calls never yield to the hub."""
    module: ModuleType = eventlet.patcher.original(name)
    return module


_time = original("time")


def now_s() -> float:
    """Monotonic seconds."""
    value: float = _time.monotonic()
    return value


def unix_s() -> float:
    """Seconds since 1970."""
    value: float = _time.time()
    return value


def sleep(seconds: float = 0) -> None:
    """Let others run for `seconds`. Not from a pump callback: there nothing may wait."""
    eventlet.sleep(seconds)


class Task(Protocol):
    """A spawned greenlet."""

    def kill(self) -> None:
        """End it where it stands."""

    def wait(self) -> object:
        """Its result; raises what it raised."""


def spawn(function: Callable[..., object], *args: object) -> Task:
    """Run `function` in a new greenlet, from the next hub turn on."""
    global _live  # noqa: PLW0603 - one count per process
    _live += 1
    started: Any = eventlet.spawn(function, *args)
    started.link(_ended)
    task: Task = started
    return task


# Greenlets of `spawn` that have not ended: a count, since walking the heap would stall the pump.
_live = 0


def _ended(*_: object) -> None:
    global _live  # noqa: PLW0603 - as above
    _live -= 1


def live_greenlets() -> int:
    """How many greenlets that `spawn` began have not ended; those of pools are in `Pool.running`."""
    return _live


class CallTimeout(Exception):
    """A call took longer than it may."""


def call_with_timeout(timeout_s: float, function: Callable[..., Any], *args: object) -> Any:
    """What `function` returns; it is interrupted where it next waits after `timeout_s`, and nowhere else.

    Raises:
        TooLate: it was interrupted, or a time limit of its own was.
    """
    limit = eventlet.Timeout(timeout_s)
    try:
        return function(*args)
    except eventlet.Timeout as error:
        raise CallTimeout from error
    finally:
        limit.cancel()


class Timer(Protocol):
    """A call that is still to come."""

    def cancel(self) -> None:
        """Do not call any more. Idempotent."""


def call_later(seconds: float, function: Callable[..., object], *args: object) -> Timer:
    """Call `function` from the hub greenlet after `seconds`; it must not block."""
    timer: Timer = eventlet.hubs.get_hub().schedule_call_global(seconds, function, *args)
    return timer


def call_soon(function: Callable[..., object], *args: object) -> Timer:
    """Call `function` from the hub greenlet on the next turn; it must not block."""
    return call_later(0, function, *args)


def in_hub() -> bool:
    """Whether the caller runs in the hub greenlet, where nothing may block."""
    here: object = greenlet.getcurrent()
    return here is eventlet.hubs.get_hub().greenlet


def watch(fd: int, callback: Callable[[int], object]) -> None:
    """Call `callback(fd)` from the hub greenlet whenever `fd` is readable, until `unwatch`.

    Registered from the hub greenlet itself: a listener keeps the greenlet that made it alive.
    """
    if in_hub():
        _watch(fd, callback)
    else:
        call_soon(_watch, fd, callback)


def _watch(fd: int, callback: Callable[[int], object]) -> None:
    unwatch(fd)
    eventlet.hubs.get_hub().add(_READ, fd, callback, _thrown_away, _nothing)


def unwatch(fd: int) -> None:
    """Stop watching `fd`; call it before closing the descriptor. Idempotent."""
    hub = eventlet.hubs.get_hub()
    listener = hub.listeners[_READ].get(fd)
    if listener is not None:
        hub.remove(listener)


def is_watched(fd: int) -> bool:
    """Whether the hub still calls back for `fd`: an exception in a callback ends that."""
    return fd in eventlet.hubs.get_hub().listeners[_READ]


def _thrown_away(*_: object) -> None:
    """The hub's way to tell a waiting greenlet of a reused descriptor; nobody waits here."""


def _nothing() -> None:
    """The hub's way to mark a socket object as closed; there is no socket object here."""


class Signal:
    """Something that happens once; greenlets wait for it."""

    def __init__(self) -> None:
        self._event = eventlet.event.Event()

    @property
    def is_set(self) -> bool:
        """Whether it has happened."""
        return bool(self._event.ready())

    def set(self) -> None:
        """It has happened. Idempotent; from the pump, too."""
        if not self._event.ready():
            self._event.send(None)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for it, for at most `timeout_s`; whether it has happened."""
        if not self._event.ready():
            self._event.wait(timeout_s)
        return self.is_set


class Pool:
    """At most `size` greenlets that run what is submitted, at most `queue_max` waiting.

    Full means that `submit` answers False: the caller refuses, nothing is dropped in silence.
    Greenlets are made on demand and end when nothing waits.
    """

    def __init__(self, size: int, queue_max: int, *, on_error: Callable[[BaseException], object] | None = None) -> None:
        self.size = size
        self.queue_max = queue_max
        self.running = 0
        self._waiting: deque[tuple[Callable[..., object], tuple[object, ...]]] = deque()
        self._on_error = on_error

    def __len__(self) -> int:
        """How many submitted calls have not begun yet."""
        return len(self._waiting)

    def submit(self, function: Callable[..., object], *args: object) -> bool:
        """Have `function` called by a greenlet of the pool, in order of submission. False: the queue is full."""
        if self.running < self.size:
            self.running += 1
            eventlet.spawn_n(self._work, function, args)
            return True
        if len(self._waiting) >= self.queue_max:
            return False
        self._waiting.append((function, args))
        return True

    def _work(self, function: Callable[..., object], args: tuple[object, ...]) -> None:
        turn_s = now_s()
        try:
            while True:
                self._call(function, args)
                if not self._waiting:
                    return
                function, args = self._waiting.popleft()
                # Calls that never wait themselves must not keep the hub from its sockets and timers.
                if now_s() - turn_s > _TURN_MAX_S:
                    sleep()
                    turn_s = now_s()
        finally:
            self.running -= 1
            # A call that raised took its greenlet with it; those that still wait get a new one.
            if self._waiting and self.running < self.size:
                self.running += 1
                eventlet.spawn_n(self._work, *self._waiting.popleft())

    def _call(self, function: Callable[..., object], args: tuple[object, ...]) -> None:
        try:
            function(*args)
        # A Timeout is a BaseException; it must end this call and not the pool's place.
        except (Exception, eventlet.Timeout) as error:
            if self._on_error is None:
                raise
            self._on_error(error)


@dataclass(frozen=True, slots=True)
class WsgiRequest:
    """One HTTP request that was read to its end.

    `raw`: head and body as HTTP/1.1 bytes with a Content-Length. `remote` and `local` are (address, port).
    """

    raw: bytes
    remote: tuple[str, int]
    local: tuple[str, int]
    secure: bool


@dataclass(frozen=True, slots=True)
class WsgiResponse:
    """What the application answered: complete HTTP bytes, and whether the connection may be used again."""

    raw: bytes
    keep_alive: bool


class ResponseTooLarge(Exception):
    """A WSGI application answered more than the limit."""


class _Written(io.RawIOBase):
    """What the application wrote, kept until the pump sends it: no greenlet waits for a slow reader."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__()
        self.parts: list[bytes] = []
        self._left_bytes = max_bytes

    @property
    def too_large(self) -> bool:
        """Whether something was refused; eventlet keeps that from whoever called it, once a head was written."""
        return self._left_bytes < 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._left_bytes -= len(data)
        if self._left_bytes < 0:
            raise ResponseTooLarge
        self.parts.append(bytes(data))
        return len(data)

    def writelines(self, lines: Iterable[Any]) -> None:
        for line in lines:
            self.write(line)

    def close(self) -> None:
        """Nothing to close: the bytes are read after the protocol object has closed its files."""


class _Bytes:
    """Looks like a socket to eventlet.wsgi: yields exactly one request and then the end."""

    def __init__(self, request: WsgiRequest, max_bytes: int) -> None:
        self._request = request
        self.written = _Written(max_bytes)

    def makefile(self, mode: str, _size: int = -1) -> Any:
        return io.BytesIO(self._request.raw) if "r" in mode else self.written

    def getsockname(self) -> tuple[str, int]:
        return self._request.local

    def setsockopt(self, *_: object) -> None:
        """The descriptor is the pump's; its options are set."""

    settimeout = shutdown = setsockopt

    def close(self) -> None:
        """The descriptor is the pump's."""


class _OneRequest(eventlet.wsgi.HttpProtocol):  # type: ignore[misc]
    """eventlet's HTTP protocol for a single request that was already read."""

    def handle(self) -> None:
        self.close_connection = True
        self.handle_one_request()

    def finish(self) -> None:
        """Nothing to shut down: the bytes go to the pump."""

    def get_environ(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environ()
        if self.conn_state[3].secure:
            environ["wsgi.url_scheme"] = "https"
        # It pins this object and leads around the pump.
        environ.pop("eventlet.set_idle", None)
        return environ


class _Tracebacks:
    """eventlet.wsgi's log: an application's traceback goes to our log, never to a client."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log

    def info(self, message: str, *_: object) -> None:
        self._log.error("a WSGI application failed: %s", message)

    error = info

    def debug(self, message: str, *_: object) -> None:
        self._log.debug("%s", message)


class WsgiServer:
    """Runs a WSGI application through eventlet.wsgi, one complete request at a time, without a socket."""

    def __init__(self, app: WsgiApp, *, log: logging.Logger, environ: Mapping[str, object] | None = None) -> None:
        self._server = eventlet.wsgi.Server(
            None,
            None,
            app,
            environ=dict(environ or {}),
            log_output=False,
            debug=False,
            keepalive=True,
            protocol=_OneRequest,
        )
        # With log_output off, eventlet would also swallow tracebacks.
        self._server.log = _Tracebacks(log)

    def serve_wsgi_request(self, request: WsgiRequest, *, timeout_s: float, response_max_bytes: int) -> WsgiResponse:
        """The application's answer. Runs in the caller's greenlet, which may be switched away from meanwhile.

        Raises:
            TimeoutError: no complete answer within `timeout_s`.
            ResponseTooLarge: more than `response_max_bytes`.
        """
        connection = _Bytes(request, response_max_bytes)
        state: list[Any] = [request.remote, connection, eventlet.wsgi.STATE_REQUEST, request]
        limit = eventlet.Timeout(timeout_s)
        late = False
        try:
            protocol = _OneRequest(state, self._server)
        except eventlet.Timeout as timeout:
            if timeout is not limit:
                raise
            late = True
        finally:
            # eventlet.wsgi answers 500 by itself when a timeout hits the application.
            late = late or not limit.pending
            limit.cancel()
        if late:
            message = f"no answer within {timeout_s} s"
            raise TimeoutError(message)
        if connection.written.too_large:
            raise ResponseTooLarge
        return WsgiResponse(b"".join(connection.written.parts), keep_alive=not protocol.close_connection)
