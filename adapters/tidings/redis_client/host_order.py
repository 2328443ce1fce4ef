"""In which order several hosts are tried of which any one can answer, and for how long each. No I/O."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from tidings.redis_client.hosts_url import HostAndPort

# Hosts that share the time, if there are more.
_SHARES_MAX = 3


class HostOrder:
    """A host that was tried goes to the end. Hosts that did not answer the last time come after all others.

    So a host that hangs costs a part of the time once, and nothing as long as another one answers. `rotates` False: the
    first host is preferred, and a host that was tried stays where it is.
    """

    def __init__(self, hosts: Iterable[HostAndPort], *, rotates: bool = True) -> None:
        self._hosts = list(hosts)
        self._rotates = rotates
        self._silent: frozenset[HostAndPort] = frozenset()

    def candidates(self, end_s: float) -> Iterator[tuple[HostAndPort, float]]:
        """Each host with its share of the time until `end_s` (of `time.monotonic`), in seconds."""
        hosts = sorted(self._hosts, key=self._silent.__contains__)
        for number, host in enumerate(hosts):
            left_s = end_s - time.monotonic()
            if left_s <= 0:
                return
            if self._rotates:
                self._hosts = [*(other for other in self._hosts if other != host), host]
            yield host, left_s / min(len(hosts) - number, _SHARES_MAX)

    def report_silent(self, host: HostAndPort) -> None:
        """A host did not answer."""
        self._silent |= {host}

    def report_answer(self, host: HostAndPort) -> None:
        """A host answered."""
        self._silent -= {host}
