"""Descriptors in reserve, for the moment when the process may open no more.

At the limit of RLIMIT_NOFILE, accept(2) fails, and a probe of the node would wait until its timeout. The node then
releases its spare descriptors, so that probes and backends still have room.
"""

from __future__ import annotations

from tidings_hub import runtime

_os = runtime.original("os")
# Half of them go to sockets of probes and backends, the other half to the node's own connections and files.
SPARES = 32


class SpareDescriptors:
    """Keeps `SPARES` descriptors open that have no use of their own, after the first `restore`."""

    def __init__(self) -> None:
        self._fds: list[int] = []

    def release(self) -> bool:
        """Close the spare descriptors. Return whether there were any."""
        fds, self._fds = self._fds, []
        for fd in fds:
            _os.close(fd)
        return bool(fds)

    def restore(self) -> bool:
        """Open the spare descriptors. Return False if the process still has too few: twice as many must fit."""
        fds: list[int] = []
        try:
            while len(fds) < 2 * SPARES:
                fds.append(_os.open("/dev/null", _os.O_RDONLY | _os.O_CLOEXEC))
        except OSError:
            self._fds += fds
            self.release()
            return False
        self._fds = fds[:SPARES]
        for fd in fds[SPARES:]:
            _os.close(fd)
        return True
