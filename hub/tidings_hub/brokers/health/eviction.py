"""Redis' eviction policy. With any other than `noeviction`, a Redis without free memory silently deletes histories."""

from __future__ import annotations

import re
from typing import Final

NO_EVICTION: Final = "noeviction"
_POLICY: Final = re.compile(rb"^maxmemory_policy:([a-z-]+)", re.MULTILINE)


def read_eviction_policy(reply: object) -> str:
    """The policy in the reply to `INFO memory`; empty if it is not there, or Redis rejected the command."""
    match = _POLICY.search(reply) if isinstance(reply, bytes) else None
    return "" if match is None else match[1].decode()
