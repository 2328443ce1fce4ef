"""The event loop. This is the only file that imports eventlet.

In this file, "hub" means eventlet's hub, that is its event loop. It runs timers, greenlets and one callback per watched
descriptor. Call the functions of this module only from greenlets of the hub's thread. A program calls `patch()` before
all its other imports.
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

# eventlet warns at import that it is only maintained. To make it replaceable, no other file imports it.
with warnings.catch_warnings():
    # Filter by text, because the warning's class is part of eventlet and not imported yet.
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
# How long a greenlet may run calls, one after the other, before the hub gets a turn.
_TURN_MAX_S: Final = 0.005
# The time for such turns in one round of the hub.
_TURNS_MAX_S: Final = 0.01


def patch() -> None:
    """Make the standard library cooperative. Call it before any other import.

    The hub uses epoll, unless the environment variable `EVENTLET_HUB` names another hub.
    """
    if "EVENTLET_HUB" not in os.environ:
        eventlet.hubs.use_hub("epolls")
    eventlet.monkey_patch()


def original(name: str) -> ModuleType:
    """Return a module without the changes of `patch()`. Its calls block the whole thread."""
    module: ModuleType = eventlet.patcher.original(name)
    return module


_time = original("time")


# Return the monotonic time, and the Unix time, in seconds. Every packet reads them, so there is no call in between.
now_s: Callable[[], float] = _time.monotonic
unix_s: Callable[[], float] = _time.time


def sleep(seconds: float = 0) -> None:
    """Let other greenlets run for `seconds`. Not allowed in callbacks of the hub, because they must not block."""
    eventlet.sleep(seconds)


def share_turn(started_s: float) -> float:
    """Let other greenlets run if the caller's turn, which began at `started_s`, is long. Return when its turn began.

    Call it between calls that may never wait: they must not block the hub, which also serves sockets and timers.
    """
    if now_s() - started_s <= _TURN_MAX_S:
        return started_s
    _turns.wait()
    return now_s()


class _Turns:
    """Greenlets that wait for their next turn, in order.

    With `sleep()` all of them would run in the next round of the hub: 256 turns of 5 ms are more than a second.
    """

    def __init__(self) -> None:
        self._waiting: deque[Any] = deque()
        self._is_scheduled = False

    def wait(self) -> None:
        """Wait until all that came earlier had their turns."""
        current = greenlet.getcurrent()
        self._waiting.append(current)
        self._schedule()
        try:
            eventlet.hubs.get_hub().switch()
        except BaseException:
            # A timeout, or it was killed.
            self._waiting.remove(current)
            raise

    def _schedule(self) -> None:
        if self._waiting and not self._is_scheduled:
            self._is_scheduled = True
            call_soon(self._resume)

    def _resume(self) -> None:
        self._is_scheduled = False
        end_s = now_s() + _TURNS_MAX_S
        # Those that come meanwhile get their turns in the next round. Others may end while they wait.
        turns = len(self._waiting)
        try:
            while self._waiting and turns > 0 and now_s() < end_s:
                turns -= 1
                self._waiting.popleft().switch()
        finally:
            # An exception that ends one greenlet arrives here. The others must still get their turns.
            self._schedule()


_turns = _Turns()


class Task(Protocol):
    """A spawned greenlet."""

    def kill(self) -> None:
        """Stop the greenlet at the call where it waits."""

    def wait(self) -> object:
        """Wait for the end of the greenlet. Return its result, or raise its exception."""


def spawn(function: Callable[..., object], *args: object) -> Task:
    """Run `function` in a new greenlet, which starts on the next turn of the hub."""
    global _live_count  # noqa: PLW0603 - one count per process
    _live_count += 1
    green_thread: Any = eventlet.spawn(function, *args)
    green_thread.link(_on_task_end)
    task: Task = green_thread
    return task


# Number of greenlets of `spawn` that have not ended. Finding them on the heap instead would block the pump.
_live_count = 0


def _on_task_end(*_: object) -> None:
    global _live_count  # noqa: PLW0603 - as above
    _live_count -= 1


def live_greenlets() -> int:
    """Return how many greenlets of `spawn` have not ended. Greenlets of pools are counted in `Pool.running`."""
    return _live_count


# What a timeout of eventlet raises in a greenlet. It is a BaseException: `except Exception` does not catch it.
Interruption: type[BaseException] = eventlet.Timeout


class CallTimeout(Exception):
    """A call exceeded its timeout."""


def call_with_timeout(timeout_s: float, function: Callable[..., Any], *args: object) -> Any:
    """Call `function` and return its result. After `timeout_s`, interrupt it at the next call that waits.

    Code that never waits is not interrupted.

    Raises:
        CallTimeout: the call was interrupted, or another eventlet timeout within it expired.
    """
    timeout = eventlet.Timeout(timeout_s)
    try:
        return function(*args)
    except eventlet.Timeout as error:
        raise CallTimeout from error
    finally:
        timeout.cancel()


class Timer(Protocol):
    """A scheduled call."""

    def cancel(self) -> None:
        """Cancel the call. Idempotent."""


def call_later(seconds: float, function: Callable[..., object], *args: object) -> Timer:
    """Call `function` in the hub's greenlet after `seconds`. It must not block."""
    timer: Timer = eventlet.hubs.get_hub().schedule_call_global(seconds, function, *args)
    return timer


def call_soon(function: Callable[..., object], *args: object) -> Timer:
    """Call `function` in the hub's greenlet on its next turn. It must not block."""
    return call_later(0, function, *args)


def in_hub() -> bool:
    """Whether the caller runs in the hub's greenlet, where no call may block."""
    current: object = greenlet.getcurrent()
    return current is eventlet.hubs.get_hub().greenlet


def watch(fd: int, callback: Callable[[int], object]) -> None:
    """Call `callback(fd)` in the hub's greenlet whenever `fd` is readable, until `unwatch`.

    The registration always runs in the hub's greenlet, because a listener keeps the greenlet that created it alive.
    """
    if in_hub():
        _watch(fd, callback)
    else:
        call_soon(_watch, fd, callback)


def _watch(fd: int, callback: Callable[[int], object]) -> None:
    unwatch(fd)
    eventlet.hubs.get_hub().add(_READ, fd, callback, _on_descriptor_reused, _on_socket_closed)


def unwatch(fd: int) -> None:
    """Stop watching `fd`. Call this before you close the descriptor. Idempotent."""
    hub = eventlet.hubs.get_hub()
    listener = hub.listeners[_READ].get(fd)
    if listener is not None:
        hub.remove(listener)


def is_watched(fd: int) -> bool:
    """Whether the hub watches `fd`. After an exception in the callback, the hub no longer does."""
    return fd in eventlet.hubs.get_hub().listeners[_READ]


def _on_descriptor_reused(*_: object) -> None:
    """Ignore that a descriptor was reused. eventlet would raise in the waiting greenlet, but no greenlet waits."""


def _on_socket_closed() -> None:
    """Ignore that a descriptor was closed. eventlet would mark its socket object, but there is none."""


class Signal:
    """An event that happens once. Greenlets can wait for it."""

    def __init__(self) -> None:
        self._event = eventlet.event.Event()

    @property
    def is_set(self) -> bool:
        """Whether the event has happened."""
        return bool(self._event.ready())

    def set(self) -> None:
        """Wake all waiting greenlets. Idempotent. Allowed in callbacks of the hub, too."""
        if not self._event.ready():
            self._event.send(None)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the event, for at most `timeout_s`. Return whether it has happened."""
        if not self._event.ready():
            self._event.wait(timeout_s)
        return self.is_set


_PoolCall = tuple[Callable[..., object], tuple[object, ...]]


class Pool:
    """A pool of at most `size` greenlets that run submitted calls. At most `queue_max` calls wait.

    If the queue is full, `submit` returns False, and the caller rejects the work. The pool itself never discards a
    call. It creates greenlets on demand. `on_error` gets the exceptions of the calls.

    `idle_max`: greenlets that wait for the next call instead of ending. A new greenlet costs 12 us, a waiting one 3 us:
    CPython maps memory for its frames. Only for calls that leave nothing behind in their greenlet, such as a timeout.
    """

    def __init__(
        self, size: int, queue_max: int, *, on_error: Callable[[BaseException], object], idle_max: int = 0
    ) -> None:
        self.size = size
        self.queue_max = queue_max
        self.running = 0
        # Calls that start on the next turn of the hub (they count as running), and calls that wait for others to end.
        self._starting: deque[_PoolCall] = deque()
        self._waiting: deque[_PoolCall] = deque()
        self._idle: set[greenlet.greenlet] = set()
        self._idle_max = idle_max
        self._is_scheduled = False
        self._on_error = on_error

    def __len__(self) -> int:
        """Number of submitted calls that wait for others to end."""
        return len(self._waiting)

    @property
    def unfinished(self) -> int:
        """Number of submitted calls that have not returned."""
        return self.running + len(self._waiting)

    def submit(self, function: Callable[..., object], *args: object) -> bool:
        """Start `function` in a greenlet of the pool, in order of submission. Return False if the queue is full."""
        if self.running < self.size:
            self.running += 1
            self._starting.append((function, args))
            if not self._is_scheduled:
                self._schedule()
            return True
        if len(self._waiting) >= self.queue_max:
            return False
        self._waiting.append((function, args))
        return True

    def _schedule(self) -> None:
        if self._starting and not self._is_scheduled:
            self._is_scheduled = True
            call_soon(self._start)

    def _start(self) -> None:
        """Give the calls that are due to greenlets: the next call runs when the greenlet before it waits or ends."""
        self._is_scheduled = False
        end_s = now_s() + _TURNS_MAX_S
        try:
            while self._starting and now_s() < end_s:
                worker = self._idle.pop() if self._idle else greenlet.greenlet(self._work)
                worker.switch(self._starting.popleft())
        finally:
            # An exception that ends one greenlet arrives here. The other calls must still start.
            self._schedule()

    def _work(self, call: _PoolCall | None) -> None:
        while call is not None:
            try:
                self._call_in_turns(*call)
            finally:
                self.running -= 1
                # If a call ended this greenlet, others start the calls that wait.
                self._admit()
            call = self._next_call() if len(self._idle) < self._idle_max else None

    def _call_in_turns(self, function: Callable[..., object], args: tuple[object, ...]) -> None:
        turn_started_s = now_s()
        self._call(function, args)
        while self._waiting:
            turn_started_s = share_turn(turn_started_s)
            # Others may have started it meanwhile.
            if self._waiting:
                self._call(*self._waiting.popleft())

    def _admit(self) -> None:
        while self._waiting and self.running < self.size:
            self.running += 1
            self._starting.append(self._waiting.popleft())
        self._schedule()

    def _next_call(self) -> _PoolCall:
        """Wait idle until `_start` switches here with a call. A switch of anyone else means nothing."""
        current, hub = greenlet.getcurrent(), eventlet.hubs.get_hub()
        self._idle.add(current)
        call: _PoolCall
        try:
            while current in self._idle:
                call = hub.switch()
        except BaseException:
            self._idle.discard(current)
            raise
        return call

    def _call(self, function: Callable[..., object], args: tuple[object, ...]) -> None:
        try:
            function(*args)
        # eventlet's Timeout is a BaseException. It must end this call, but not the greenlet of the pool.
        except (Exception, eventlet.Timeout) as error:  # noqa: BLE001 - `on_error` gets it
            self._on_error(error)


@dataclass(frozen=True, slots=True)
class WsgiRequest:
    """One complete HTTP request.

    `raw`: head and body as HTTP/1.1 bytes with a Content-Length. `remote` and `local`: pairs of address and port.
    """

    raw: bytes
    remote: tuple[str, int]
    local: tuple[str, int]
    secure: bool


@dataclass(frozen=True, slots=True)
class WsgiResponse:
    """The response of a WSGI application. `raw`: its complete HTTP bytes. `keep_alive`: the connection stays open."""

    raw: bytes
    keep_alive: bool


class ResponseTooLarge(Exception):
    """The response of a WSGI application exceeds the limit."""


class _ResponseBuffer(io.RawIOBase):
    """Collects the response of an application. The pump sends it, so no greenlet waits for a slow client."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__()
        self.parts: list[bytes] = []
        self._remaining_bytes = max_bytes

    @property
    def is_over_limit(self) -> bool:
        """Whether `write` has raised. After the head was written, eventlet does not pass that exception on."""
        return self._remaining_bytes < 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._remaining_bytes -= len(data)
        if self._remaining_bytes < 0:
            raise ResponseTooLarge
        self.parts.append(bytes(data))
        return len(data)

    def writelines(self, lines: Iterable[Any]) -> None:
        for line in lines:
            self.write(line)

    def close(self) -> None:
        """Keep the bytes: they are used after eventlet has closed its files."""


class _RequestSocket:
    """Stands in for a socket in eventlet.wsgi. It provides one request, then the end of the stream."""

    def __init__(self, request: WsgiRequest, max_bytes: int) -> None:
        self._request = request
        self.response = _ResponseBuffer(max_bytes)

    def makefile(self, mode: str, _size: int = -1) -> Any:
        return io.BytesIO(self._request.raw) if "r" in mode else self.response

    def getsockname(self) -> tuple[str, int]:
        return self._request.local

    def setsockopt(self, *_: object) -> None:
        """Do nothing: the pump owns the descriptor and has set its options."""

    settimeout = shutdown = setsockopt

    def close(self) -> None:
        """Do nothing: the pump owns the descriptor."""


class _SingleRequestProtocol(eventlet.wsgi.HttpProtocol):  # type: ignore[misc]
    """eventlet's HTTP protocol, limited to one request that was read before."""

    def handle(self) -> None:
        self.close_connection = True
        self.handle_one_request()

    def finish(self) -> None:
        """Do nothing: there is no socket to shut down."""

    def get_environ(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environ()
        if self.conn_state[3].secure:
            environ["wsgi.url_scheme"] = "https"
        # It refers to this object and bypasses the pump.
        environ.pop("eventlet.set_idle", None)
        return environ


class _ErrorLog:
    """The log of eventlet.wsgi. Tracebacks of applications go to `log`, never to a client."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log

    def info(self, message: str, *_: object) -> None:
        self._log.error("a WSGI application failed: %s", message)

    error = info

    def debug(self, message: str, *_: object) -> None:
        self._log.debug("%s", message)


class WsgiServer:
    """Runs a WSGI application with eventlet.wsgi. Requests and responses are complete bytes; there is no socket."""

    def __init__(self, app: WsgiApp, *, log: logging.Logger, environ: Mapping[str, object] | None = None) -> None:
        self._server = eventlet.wsgi.Server(
            None,
            None,
            app,
            environ=dict(environ or {}),
            log_output=False,
            debug=False,
            keepalive=True,
            protocol=_SingleRequestProtocol,
        )
        # With `log_output=False`, eventlet would discard tracebacks as well.
        self._server.log = _ErrorLog(log)

    def serve_wsgi_request(self, request: WsgiRequest, *, timeout_s: float, response_max_bytes: int) -> WsgiResponse:
        """Return the application's response. The application runs in the caller's greenlet and may wait.

        Raises:
            TimeoutError: the application did not complete its response within `timeout_s`.
            ResponseTooLarge: the response is larger than `response_max_bytes`.
        """
        connection = _RequestSocket(request, response_max_bytes)
        state: list[Any] = [request.remote, connection, eventlet.wsgi.STATE_REQUEST, request]
        timeout = eventlet.Timeout(timeout_s)
        is_late = False
        try:
            protocol = _SingleRequestProtocol(state, self._server)
        except eventlet.Timeout as error:
            if error is not timeout:
                raise
            is_late = True
        finally:
            # If the timeout expires in the application, eventlet.wsgi catches it and responds with status 500.
            is_late = is_late or not timeout.pending
            timeout.cancel()
        if is_late:
            message = f"no response within {timeout_s} s"
            raise TimeoutError(message)
        if connection.response.is_over_limit:
            raise ResponseTooLarge
        return WsgiResponse(b"".join(connection.response.parts), keep_alive=not protocol.close_connection)
