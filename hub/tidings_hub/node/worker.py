"""What a supervisor tells each of its nodes: which one it is, and where those beside it are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

# Set by the supervisor for its own processes; no setting.
VARIABLE: Final = "TIDINGS_WORKER"


@dataclass(frozen=True, slots=True)
class Worker:
    """One node of a supervisor. `beside`: every node of it, this one included, and its unix socket."""

    index: int
    addresses: dict[str, str]

    def to_text(self) -> str:
        """For the environment."""
        return json.dumps({"index": self.index, "beside": self.addresses})

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> Worker | None:
        """Who this process is; None if no supervisor started it."""
        if VARIABLE not in env:
            return None
        said = json.loads(env[VARIABLE])
        return cls(int(said["index"]), dict(said["beside"]))

    def advertise(self, address: str) -> str:
        """Where other machines reach this node, when the setting `advertise` is `address`: one port each."""
        if not address:
            return ""
        host, _, port = address.rpartition(":")
        return f"{host}:{int(port) + self.index}"
