"""The Python emitters of `bench.ways`, each in a separate process.

    python emit_ways.py tidings|notify|socketio|outbox|pusher '{"url": …}'     then as emit.py

The JSON object has the options of the emitter: `url`; for tidings also `api_key`; for Pusher's library its options.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from bench.peers.emit import EVENT, Emit, execute_jobs, socketio_emit, tidings_emit


def outbox_emit(url: str) -> Emit:
    """Write into the outbox of a database, with one transaction per call."""
    import sqlalchemy as sa

    from tidings.contrib.outbox import Outbox

    engine = sa.create_engine(url)

    def emit(items: Sequence[tuple[str, dict[str, str]]]) -> None:
        with engine.begin() as transaction:
            outbox = Outbox(transaction)
            for channel, content in items:
                outbox.emit(EVENT, content, channel=channel)

    return emit


def notify_emit(url: str) -> Emit:
    """Notify the user of each channel `user:<sub>`, with the content as data."""
    from tidings import Emitter

    emitter = Emitter(url)

    def emit(items: Sequence[tuple[str, dict[str, str]]]) -> None:
        for channel, content in items:
            user = channel.removeprefix("user:")
            emitter.notify("order", user=user, title="Your order has shipped", url="/orders/42", data=content)

    return emit


def pusher_emit(**options: Any) -> Emit:
    """Emit with Pusher's library. Its channel names have no colon."""
    from pusher import Pusher

    backend = Pusher(**options)

    def emit(items: Sequence[tuple[str, dict[str, str]]]) -> None:
        for channel, content in items:
            backend.trigger(channel.replace(":", "-"), EVENT, content)

    return emit


def main(kind: str, options: str) -> None:
    """Obeys stdin until it ends."""
    kinds = {
        "tidings": tidings_emit,
        "notify": notify_emit,
        "socketio": socketio_emit,
        "outbox": outbox_emit,
        "pusher": pusher_emit,
    }
    execute_jobs(kinds[kind](**json.loads(options)))


if __name__ == "__main__":
    main(*sys.argv[1:])
