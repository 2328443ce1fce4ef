"""What a supervisor passes to each of its worker processes: the worker's index and the addresses of all workers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

# The supervisor sets this environment variable for its own processes. It is not a setting.
VARIABLE: Final = "TIDINGS_WORKER"


@dataclass(frozen=True, slots=True)
class Worker:
    """One node of a supervisor. `addresses`: node id to unix socket, for all of its nodes including this one."""

    index: int
    addresses: dict[str, str]

    def to_text(self) -> str:
        """The value of the environment variable."""
        return json.dumps({"index": self.index, "addresses": self.addresses})

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> Worker | None:
        """The worker that this process is; None if no supervisor started it."""
        if VARIABLE not in env:
            return None
        fields = json.loads(env[VARIABLE])
        return cls(int(fields["index"]), dict(fields["addresses"]))

    def advertise(self, address: str) -> str:
        """The address of this worker for other machines: the setting `advertise`, with the index added to the port."""
        if not address:
            return ""
        host, _, port = address.rpartition(":")
        return f"{host}:{int(port) + self.index}"
