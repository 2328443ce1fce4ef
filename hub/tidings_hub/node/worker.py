"""What a supervisor passes to each of its worker processes: its index, its past, and the addresses of all workers."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    # `tidings serve` imports this module before it patches the standard library.
    from tidings_hub.config.settings import Settings

# The supervisor sets this environment variable for its own processes. It is not a setting.
VARIABLE: Final = "TIDINGS_WORKER"
NO_PIPE: Final = -1
_SECRET_BYTES: Final = 32
# What a worker writes to the pipe of its supervisor: it lives; it listens.
BEAT: Final = b"."
LISTENS: Final = b"L"


@dataclass(frozen=True, slots=True)
class Worker:
    """One node of a supervisor. `addresses`: node id to unix socket, for all of its nodes including this one.

    `restarts`: how often the supervisor restarted this worker; `hangs`: how often of these because it did not respond.
    `beat_fd`: the pipe to the supervisor, for heartbeats.
    """

    index: int
    addresses: dict[str, str]
    restarts: int = 0
    hangs: int = 0
    beat_fd: int = NO_PIPE

    @property
    def has_siblings(self) -> bool:
        """Whether the supervisor runs other nodes as well."""
        return len(self.addresses) > 1

    def to_text(self) -> str:
        """The value of the environment variable."""
        return json.dumps(asdict(self))

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> Worker | None:
        """The worker that this process is; None if no supervisor started it."""
        if VARIABLE not in env:
            return None
        fields = json.loads(env[VARIABLE])
        return cls(**fields)

    def advertise(self, address: str) -> str:
        """The address of this worker for other machines: the setting `advertise`, with the index added to the port."""
        if not address:
            return ""
        host, _, port = address.rpartition(":")
        return f"{host}:{int(port) + self.index}"


def shared_environment(settings: Settings, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of all processes of a supervisor: its own, with the secrets that they need and no one has set."""
    shared = dict(environment)
    if not settings.relay_secrets():
        # Under --dev, or with public keys only: only these processes need the secret.
        shared["TIDINGS_RELAY_SECRET"] = secrets.token_urlsafe(_SECRET_BYTES)
    is_keyless = not (settings.dev or settings.api_keys)
    if is_keyless and settings.notifications.has_child and settings.broker == "memory://":
        # Without a broker the service publishes its events over HTTP. No backend knows this key.
        shared["TIDINGS_API_KEYS"] = secrets.token_urlsafe(_SECRET_BYTES)
    return shared
