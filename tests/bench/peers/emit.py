"""The emitters of the two Python systems, each in a separate process.

    python emit.py tidings|socketio REDIS_URL     prints {"ready": true}, then executes lines of JSON on stdin:
    {"channels": [...], "order": [...], "first": 0, "rate": 0, "batch": 0, "window": 0, "fifo": ""}

Emits one event per entry of `order` (an index into `channels`), numbered from `first`.

- `rate`: events per second, 0 for no limit.
- `batch`: events per batch, 0 for one call per event. Only tidings has batches.
- `window`: events that may be in flight, 0 for no limit. Each byte in `fifo` means that one event has reached all its
  clients.

Responds with {"emitted", "took_s", "cpu_s"}.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

EVENT = "bench"
# 200 bytes of JSON together with the marker and the names.
FILL = "a" * 159

Emit = Callable[[Sequence[tuple[str, dict[str, str]]]], None]


def data(number: int) -> dict[str, str]:
    """Data of 200 bytes as JSON, with the marker for load.c: the time in ns and the number."""
    return {"t": f"~T{time.monotonic_ns():016x}{number:08x}", "x": FILL}


def tidings_emit(url: str, api_key: str | None = None) -> Emit:
    """Emit with the `Emitter` of tidings: a single event, or several events as one batch."""
    from tidings import Emitter

    emitter = Emitter(url, api_key=api_key)

    def emit(items: Sequence[tuple[str, dict[str, str]]]) -> None:
        if len(items) == 1:
            channel, content = items[0]
            emitter.emit(EVENT, content, channel=channel)
            return
        with emitter.batch() as batch:
            for channel, content in items:
                batch.emit(EVENT, content, channel=channel)

    return emit


def socketio_emit(url: str) -> Emit:
    """Emit with a write-only manager, as python-socketio documents for external processes."""
    import socketio

    manager = socketio.RedisManager(url, write_only=True)

    def emit(items: Sequence[tuple[str, dict[str, str]]]) -> None:
        for channel, content in items:
            manager.emit(EVENT, content, room=channel)

    return emit


def run(emit: Emit, job: dict[str, Any]) -> dict[str, float]:
    """Execute one job; return its duration and the CPU time of this process."""
    channels, order, first = job["channels"], job["order"], job["first"]
    rate, step = job.get("rate", 0), job.get("batch", 0) or 1
    window, arrived = job.get("window", 0), 0
    steps = os.open(job["fifo"], os.O_RDONLY) if window else -1
    began_s, cpu_s = time.monotonic(), time.process_time()
    for start in range(0, len(order), step):
        while window and start - arrived >= window:
            arrived += len(os.read(steps, window))
        if rate:
            time.sleep(max(0.0, began_s + start / rate - time.monotonic()))
        picked = order[start : start + step]
        emit([(channels[index], data(first + start + at)) for at, index in enumerate(picked)])
    if window:
        os.close(steps)
    return {
        "emitted": len(order),
        "took_s": time.monotonic() - began_s,
        "cpu_s": time.process_time() - cpu_s,
    }


def _respond(content: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(content) + "\n")
    sys.stdout.flush()


def execute_jobs(emit: Emit) -> None:
    """Execute the jobs on stdin until it ends."""
    _respond({"ready": True})
    for line in sys.stdin:
        _respond(run(emit, json.loads(line)))


def main(kind: str, url: str) -> None:
    """Execute the jobs on stdin with one of the emitters."""
    execute_jobs({"tidings": tidings_emit, "socketio": socketio_emit}[kind](url))


if __name__ == "__main__":
    main(*sys.argv[1:])
