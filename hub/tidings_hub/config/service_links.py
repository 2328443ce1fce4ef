"""Variables that Kubernetes sets in each pod for a Service called `tidings` or `tidings-…`.

They look like settings (`TIDINGS_PORT=tcp://10.0.0.11:8000`) and are none. `enableServiceLinks: false` turns them off.
Source: Kubernetes documentation, Service, "Environment variables".
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_HOST = "SERVICE_HOST"
_LINK = re.compile(r"SERVICE_(?:HOST|PORT(?:_[A-Z0-9_]+)?)|PORT_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?")
_URL = re.compile(r"(?:tcp|udp|sctp)://")


def service_links(env: Mapping[str, str], *, start: str) -> frozenset[str]:
    """The variables of services whose name in the environment begins with `start`, such as `TIDINGS_`."""
    services = [name.removesuffix(_HOST) for name in env if name.startswith(start) and name.endswith(f"_{_HOST}")]
    return frozenset(
        name
        for name, value in env.items()
        for service in services
        if name.startswith(service) and _is_link(name.removeprefix(service), value)
    )


def _is_link(rest: str, value: str) -> bool:
    # A port that the pod's own `env` sets replaces the link.
    return _LINK.fullmatch(rest) is not None or (rest == "PORT" and _URL.match(value) is not None)
