"""The pump: one epoll object for all client sockets. eventlet's hub watches only the descriptor of that object.

Sockets with priority have a second epoll object, inside the first one (`capacity/priority_sockets.py`).

Code in this file must not block, and no exception may leave the hub's callback (`Pump._turn`). After an exception,
eventlet's hub would stop watching the epoll, and the node would receive nothing (eventlet/hubs/hub.py,
squelch_exception).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from tidings_hub import runtime
from tidings_hub.engine.capacity.priority_sockets import Acceptor, PrioritySockets
from tidings_hub.engine.linger import Linger
from tidings_hub.engine.outbuffer import OutBuffer
from tidings_hub.engine.timing_wheel import TimingWheel

_os = runtime.original("os")
# monkey_patch removes epoll from `select`.
_select: Any = runtime.original("select")
_IN = _select.EPOLLIN | _select.EPOLLRDHUP
_OUT = _select.EPOLLOUT
_QUIET = _select.EPOLLRDHUP
# A turn ends after so many events, or after this time. Timers and other greenlets run before the next turn.
_TURN_MAX = 512
_TURN_MAX_S = 0.01
# Events that are fetched together. The kernel returns the descriptors in turn, so none waits for the others for long.
_BATCH_MAX = 32
# The same after a turn that took too long: a batch is not interrupted.
_SLOW_BATCH_MAX = 4
_WATCH_S = 1.0


class Endpoint(Protocol):
    """The owner of one descriptor in the pump."""

    def on_event(self, mask: int) -> None:
        """The descriptor is ready; `mask` holds epoll's bits."""

    def abort(self) -> None:
        """Close the descriptor: `on_event` raised."""


class Resumable(Protocol):
    """An object with postponed work."""

    def resume(self) -> None:
        """Continue the work."""

    def abort(self) -> None:
        """Close what is open: `resume` raised."""


class Pump:
    """Owns descriptors and passes their events to their endpoints.

    `on_error` gets every exception of an endpoint. `on_recovered` is called after the watchdog found that the hub no
    longer watched the epoll, and registered it again. `on_cut_off` is called for each descriptor that is closed while
    lingering, because `linger_s` is over.
    """

    def __init__(
        self,
        wheel: TimingWheel,
        *,
        linger_s: float,
        on_error: Callable[[BaseException], object],
        on_recovered: Callable[[], object],
        on_cut_off: Callable[[], object],
    ) -> None:
        self.wheel = wheel
        wheel.has_input = self.has_input
        self.turns = 0
        self.on_cut_off = on_cut_off
        self._linger_s = linger_s
        self._on_error = on_error
        self._on_recovered = on_recovered
        self._epoll: Any = _select.epoll()
        self._poll = self._epoll.poll
        self._table: dict[int, Endpoint] = {}
        self._priority = PrioritySockets()
        self._epoll.register(self._priority.epoll.fileno(), _select.EPOLLIN)
        self._batch_max = _BATCH_MAX
        self._watchdog: runtime.Timer | None = None
        self._turns_seen = -1
        self._waiting_at_check = False
        self._running = False

    def __len__(self) -> int:
        """Number of open client descriptors."""
        return len(self._table)

    def start(self) -> None:
        """Register the epoll with eventlet's hub."""
        self._running = True
        runtime.watch(self._epoll.fileno(), self._turn)
        self._watchdog = runtime.call_later(_WATCH_S, self._watch)

    def stop(self) -> None:
        """Close every descriptor and the epoll."""
        self._running = False
        if self._watchdog is not None:
            self._watchdog.cancel()
        runtime.unwatch(self._epoll.fileno())
        for fd, endpoint in list(self._table.items()):
            self._abort(fd, endpoint)
        for fd in list(self._table):
            self.close(fd)
        self._epoll.close()
        self._priority.epoll.close()

    def listen(self, fd: int, acceptor: Acceptor) -> None:
        """Call `acceptor` when connections wait on the listening descriptor `fd`."""
        self._priority.listen(fd, acceptor)

    def stop_listening(self, fd: int) -> None:
        """Stop watching a listening descriptor. Idempotent; the descriptor stays open."""
        self._priority.stop_listening(fd)

    def add(self, fd: int, endpoint: Endpoint) -> None:
        """Take ownership of a new descriptor and watch it."""
        self._table[fd] = endpoint
        self._epoll.register(fd, _IN)

    def add_accepted(self, fd: int, endpoint: Endpoint) -> None:
        """As `add`, for a socket that was just accepted, with priority. An acceptor calls this in its `accept`."""
        self._table[fd] = endpoint
        self._priority.add_accepted(fd)

    def end_priority(self, fd: int) -> None:
        """Handle the descriptor in turn with all others from now on. Idempotent."""
        if fd in self._priority.fds:
            self.detach(fd)
            self.reattach(fd)

    def reassign(self, fd: int, endpoint: Endpoint) -> None:
        """Make `endpoint` the owner of a descriptor that the pump already watches."""
        self._table[fd] = endpoint

    def want_write(self, fd: int, *, want: bool) -> None:
        """Watch writability, in addition to input, while `want` is true."""
        self._watch_for(fd, _IN | _OUT if want else _IN)

    def mute(self, fd: int) -> None:
        """Stop reading: watch only whether the other side closes. Its bytes stay in the kernel."""
        self._watch_for(fd, _QUIET)

    def unmute(self, fd: int) -> None:
        """Watch input again, after `mute`."""
        self._watch_for(fd, _IN)

    def only_write(self, fd: int) -> None:
        """Watch only writability. The other side has closed; epoll would report that on every turn."""
        self._watch_for(fd, _OUT)

    def detach(self, fd: int) -> None:
        """Stop watching the descriptor. With `mute`, epoll would report a closed peer on every turn."""
        unregister = self._priority.remove if fd in self._priority.fds else self._epoll.unregister
        unregister(fd)

    def reattach(self, fd: int, *, has_priority: bool = False) -> None:
        """Watch the descriptor again, after `detach`."""
        register = self._priority.add if has_priority else self._epoll.register
        register(fd, _IN)

    def _watch_for(self, fd: int, mask: int) -> None:
        modify = self._priority.watch if fd in self._priority.fds else self._epoll.modify
        modify(fd, mask)

    def close(self, fd: int) -> None:
        """Close a descriptor. epoll removes it by itself."""
        if self._table.pop(fd, None) is not None:
            self._priority.forget(fd)
            _os.close(fd)

    def linger(self, fd: int, out: OutBuffer | None, last_bytes: bytes) -> Linger | None:
        """Send the content of `out` and `last_bytes`. Then close when the other side closes, or after `linger_s`."""
        if fd not in self._table:
            return None
        self.end_priority(fd)
        linger = Linger(self, fd, out, last_bytes, self._linger_s)
        self._table[fd] = linger
        linger.start()
        return linger

    def resume(self, endpoint: Resumable) -> None:
        """Call `endpoint.resume()`, with the same protection as for an event."""
        try:
            endpoint.resume()
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - see the module's docstring
            self._report(error)
            endpoint.abort()

    def call_safely(self, function: Callable[..., object], *args: object) -> None:
        """Call `function` for one connection. An exception is reported and does not propagate."""
        try:
            function(*args)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - an error of one connection must not affect the others
            self._report(error)

    def endpoints(self) -> Iterable[tuple[int, Endpoint]]:
        """All descriptors with their owners. Do not add or close one while you iterate."""
        return self._table.items()

    def lingering_count(self) -> int:
        """Number of descriptors that stay open only until the other side has read the last bytes."""
        return sum(isinstance(endpoint, Linger) for endpoint in self._table.values())

    def _turn(self, _fd: int) -> None:
        self.turns += 1
        try:
            self._work()
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - see the module's docstring
            self._report(error)

    def _work(self) -> None:
        events = self._priority.events()
        self._handle(events)
        # A new connection may get the number of a descriptor that was closed above, and must not receive its event.
        self._priority.accept(events)
        # Most new sockets have their request already. Watched for it, each would need two more system calls.
        self._handle((fd, _select.EPOLLIN) for fd in self._priority.accepted())
        self._priority.register_accepted(_IN)
        # To read 64 KB and parse it takes up to 5 ms, so 512 clients could stop the event loop for seconds.
        end_s = runtime.now_s() + _TURN_MAX_S
        batch_max, self._batch_max = self._batch_max, _BATCH_MAX
        for _ in range(_TURN_MAX // _BATCH_MAX):
            events = self._poll(0, batch_max)
            self._handle(events)
            if runtime.now_s() >= end_s:
                self._batch_max = _SLOW_BATCH_MAX
                break
            if len(events) < batch_max:
                break

    def _handle(self, events: Iterable[tuple[int, int]]) -> None:
        table = self._table
        for fd, mask in events:
            endpoint = table.get(fd)
            if endpoint is None:
                # It was closed above, listens, or is the epoll object with priority.
                continue
            try:
                endpoint.on_event(mask)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # noqa: BLE001 - an error of one connection closes only that connection
                self._report(error)
                self._abort(fd, endpoint)

    def _abort(self, fd: int, endpoint: Endpoint) -> None:
        try:
            endpoint.abort()
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - as above
            self._report(error)
            if self._table.get(fd) is endpoint:
                self.close(fd)

    def _report(self, error: BaseException) -> None:
        # An error while logging must not leave the callback, and there is no other place to report it.
        with contextlib.suppress(Exception):
            self._on_error(error)

    def _watch(self) -> None:
        # First schedule the next check, so that an exception below cannot stop the watchdog.
        self._watchdog = runtime.call_later(_WATCH_S, self._watch)
        if not self._running:
            return
        was_waiting, self._waiting_at_check = self._waiting_at_check, self._is_waiting()
        # On a busy machine the event loop itself may not have run since the last check. Between two checks it has.
        if not runtime.is_watched(self._epoll.fileno()) or (was_waiting and self._waiting_at_check):
            runtime.watch(self._epoll.fileno(), self._turn)
            self._waiting_at_check = False
            self._on_recovered()
        self._turns_seen = self.turns

    def has_input(self) -> bool:
        """Whether events wait for the next turn."""
        return self._running and bool(self._poll(0, 1))

    def is_alive(self) -> bool:
        """Whether eventlet's hub watches the epoll, and no events have waited since the watchdog's last check."""
        return self._running and not self._is_waiting() and runtime.is_watched(self._epoll.fileno())

    def _is_waiting(self) -> bool:
        return self.turns == self._turns_seen and bool(self._poll(0, 1))
