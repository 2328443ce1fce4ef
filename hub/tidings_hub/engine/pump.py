"""The pump: one epoll of ours owns every client socket; eventlet's hub knows only that epoll.

Nothing here may block, and no exception may leave the callback: the hub would forget the
epoll for good, and the node would be deaf (reference: eventlet/hubs/hub.py, squelch_exception).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, Protocol

from tidings_hub import runtime
from tidings_hub.engine.linger import Linger
from tidings_hub.engine.outbuffer import OutBuffer
from tidings_hub.engine.timing_wheel import Wheel

_os = runtime.original("os")
# monkey_patch removes epoll from `select`.
_select: Any = runtime.original("select")
_IN = _select.EPOLLIN | _select.EPOLLRDHUP
_OUT = _select.EPOLLOUT
_QUIET = _select.EPOLLRDHUP
# Events of one turn; what is left comes with the hub's next turn, after timers and other greenlets.
_TURN_MAX = 512
_WATCH_S = 1.0


class Endpoint(Protocol):
    """What owns one descriptor in the pump."""

    def event(self, mask: int) -> None:
        """The descriptor is ready; `mask` holds epoll's bits."""

    def abort(self) -> None:
        """An exception left `event`: close what is left."""


class Resumed(Protocol):
    """What goes on with work that it had put off."""

    def resume(self) -> None:
        """Go on."""

    def abort(self) -> None:
        """An exception left `resume`: close what is left."""


class Acceptor(Protocol):
    """What owns a listening descriptor."""

    def accept(self) -> None:
        """Take what waits."""


class Pump:
    """Owns descriptors and tells their endpoints what happens.

    `failed` is told of exceptions, `mended` of a mend, `cut_off` of each descriptor whose `linger_s` were over.
    """

    def __init__(
        self,
        wheel: Wheel,
        *,
        linger_s: float,
        failed: Callable[[BaseException], object],
        mended: Callable[[], object],
        cut_off: Callable[[], object],
    ) -> None:
        self.wheel = wheel
        self.turns = 0
        self.cut_off = cut_off
        self._linger_s = linger_s
        self._failed = failed
        self._mended = mended
        self._epoll: Any = _select.epoll()
        self._poll = self._epoll.poll
        self._table: dict[int, Endpoint] = {}
        self._acceptors: dict[int, Acceptor] = {}
        self._watchdog: runtime.Timer | None = None
        self._turns_seen = -1
        self._running = False

    def __len__(self) -> int:
        """How many client descriptors are open."""
        return len(self._table)

    def start(self) -> None:
        """Have the hub call us."""
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

    def listen(self, fd: int, acceptor: Acceptor) -> None:
        """Tell `acceptor` when connections wait on the listening `fd`."""
        self._acceptors[fd] = acceptor
        self._epoll.register(fd, _select.EPOLLIN)

    def unlisten(self, fd: int) -> None:
        """Tell no more. Idempotent; the descriptor stays open."""
        if self._acceptors.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def add(self, fd: int, endpoint: Endpoint) -> None:
        """Own a new descriptor."""
        self._table[fd] = endpoint
        self._epoll.register(fd, _IN)

    def give(self, fd: int, endpoint: Endpoint) -> None:
        """Another endpoint owns an already known descriptor from now on."""
        self._table[fd] = endpoint

    def want_write(self, fd: int, *, want: bool) -> None:
        """Tell of writability only while something waits for it."""
        self._epoll.modify(fd, _IN | _OUT if want else _IN)

    def mute(self, fd: int) -> None:
        """Tell only of the other side's end: its bytes are not wanted now."""
        self._epoll.modify(fd, _QUIET)

    def unmute(self, fd: int) -> None:
        """Tell of bytes again."""
        self._epoll.modify(fd, _IN)

    def only_write(self, fd: int) -> None:
        """Tell only of writability: the other side has ended, and epoll would repeat that without pause."""
        self._epoll.modify(fd, _OUT)

    def part(self, fd: int) -> None:
        """Tell nothing at all: not even an end, which epoll would repeat without pause."""
        self._epoll.unregister(fd)

    def rejoin(self, fd: int) -> None:
        """After `part`: tell again."""
        self._epoll.register(fd, _IN)

    def close(self, fd: int) -> None:
        """Close a descriptor; epoll forgets it by itself."""
        if self._table.pop(fd, None) is not None:
            _os.close(fd)

    def linger(self, fd: int, out: OutBuffer | None, last: bytes) -> None:
        """Send what waits in `out`, then `last`, and close once the other side has read it, or after `linger_s`."""
        if fd not in self._table:
            return
        linger = Linger(self, fd, out, last, self._linger_s)
        self._table[fd] = linger
        linger.begin()

    def resume(self, endpoint: Resumed) -> None:
        """Have `endpoint` go on, with the same care as for an event."""
        try:
            endpoint.resume()
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - see the module's docstring
            self._report(error)
            endpoint.abort()

    def guard(self, function: Callable[..., object], *args: object) -> None:
        """Call something for one connection; its exception is reported, and goes no further."""
        try:
            function(*args)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - one connection's fault must not reach the others
            self._report(error)

    def lingering(self) -> int:
        """How many descriptors only wait for their last bytes to be read."""
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
        table = self._table
        accepting = []
        for fd, mask in self._poll(0, _TURN_MAX):
            endpoint = table.get(fd)
            if endpoint is None:
                acceptor = self._acceptors.get(fd)
                if acceptor is not None:
                    accepting.append(acceptor)
                continue
            try:
                endpoint.event(mask)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # noqa: BLE001 - one connection's fault closes that connection only
                self._report(error)
                self._abort(fd, endpoint)
        # Last: a descriptor closed above may get its number again here, and must not meet an event of its past.
        for acceptor in accepting:
            acceptor.accept()

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
        # A failing log must not make the node deaf, and nobody is left to tell.
        with contextlib.suppress(Exception):
            self._failed(error)

    def _watch(self) -> None:
        # First the next look: whatever happens below, the watchdog goes on.
        self._watchdog = runtime.call_later(_WATCH_S, self._watch)
        if not self._running:
            return
        if not self.alive():
            runtime.watch(self._epoll.fileno(), self._turn)
            self._mended()
        self._turns_seen = self.turns

    def alive(self) -> bool:
        """Whether the hub calls us: it knows the epoll, and events have not waited since the watchdog's last look."""
        waiting = self.turns == self._turns_seen and bool(self._poll(0, 1))
        return self._running and not waiting and runtime.watched(self._epoll.fileno())
