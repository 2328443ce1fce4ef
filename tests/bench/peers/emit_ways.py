"""The emitters in Python of `bench.ways`, each in a process of its own.

    python emit_ways.py tidings|socketio|outbox|pusher '{"url": …}'     then as emit.py

The JSON object has what the emitter is made with: `url`; for tidings also `api_key`; for Pusher's library its options.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from bench.peers.emit import EVENT, Emit, obey, socketio_emit, tidings_emit


def outbox_emit(url: str) -> Emit:
    """Writes into the outbox of a database: one transaction for each call."""
    import sqlalchemy as sa

    from tidings.contrib.outbox import Outbox

    engine = sa.create_engine(url)

    def emit(items: Sequence[tuple[str, dict[str, str]]]) -> None:
        with engine.begin() as transaction:
            outbox = Outbox(transaction)
            for channel, content in items:
                outbox.emit(EVENT, content, channel=channel)

    return emit


def pusher_emit(**options: Any) -> Emit:
    """Emits with Pusher's own library, whose names of channels have no colon."""
    from pusher import Pusher

    backend = Pusher(**options)

    def emit(items: Sequence[tuple[str, dict[str, str]]]) -> None:
        for channel, content in items:
            backend.trigger(channel.replace(":", "-"), EVENT, content)

    return emit


def main(kind: str, options: str) -> None:
    """Obeys stdin until it ends."""
    kinds = {"tidings": tidings_emit, "socketio": socketio_emit, "outbox": outbox_emit, "pusher": pusher_emit}
    obey(kinds[kind](**json.loads(options)))


if __name__ == "__main__":
    main(*sys.argv[1:])
