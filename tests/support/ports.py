"""Free TCP ports for servers that tests start."""

from __future__ import annotations

import os
import random
import socket
from itertools import cycle

# Below the ports that the kernel assigns to outgoing connections (net.ipv4.ip_local_port_range, 32768 to 60999 by
# default): such a port stays free until its server starts, and also while its server restarts.
_FIRST = 10_000
# Each process of pytest-xdist has its own range, so that two of them never start a server on the same port.
_PER_WORKER = 2_000
_WORKERS_MAX = 11


def _own_range() -> range:
    """The ports of this process. Outside of pytest-xdist: those of the first worker."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = _FIRST + number % _WORKERS_MAX * _PER_WORKER
    return range(first, first + _PER_WORKER)


# Each test run on this machine begins at another port of the range, so that two runs rarely collide.
_ports = cycle(random.sample(_own_range(), _PER_WORKER))


def free_port() -> int:
    """A TCP port of the loopback that is free, and that this process has not used for a long time."""
    for _ in range(_PER_WORKER):
        port = next(_ports)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise AssertionError(f"no free port among {_PER_WORKER}")
