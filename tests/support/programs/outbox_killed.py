"""`tidings outbox` that kills itself at one step: `python outbox_killed.py STEP ARGUMENT…`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from tidings.contrib.outbox.store import OutboxStore
from tidings.publishers.redis.publisher import RedisPublisher
from tidings_hub.cli import main


def die() -> None:
    """Kill this process immediately, like kill -9."""
    os.kill(os.getpid(), signal.SIGKILL)


def _then_die(method: Callable[..., Any]) -> Callable[..., Any]:
    def dying(*arguments: Any, **options: Any) -> Any:
        method(*arguments, **options)
        die()

    return dying


# The method at the end of each step of a claim.
STEPS: dict[str, tuple[type, str]] = {
    "claimed": (OutboxStore, "rows"),
    "published": (RedisPublisher, "publish"),
    "deleted": (OutboxStore, "record_results"),
    "committed": (OutboxStore, "commit"),
}

if __name__ == "__main__":
    owner, name = STEPS[sys.argv[1]]
    setattr(owner, name, _then_die(getattr(owner, name)))
    sys.exit(main(sys.argv[2:]))
