"""One process with many clients. Prints what they did so far as lines of JSON; ends when its input ends."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from faults.client import Client, Counts
from faults.load import PATTERNS, Load
from support.processes.hub import token

_TELL_S = 0.25
_TOKEN_S = 86_400.0
# Not all in the same moment: a start is not what is tested.
_START_S = 0.002


def create_clients(options: dict[str, Any], counts: Counts, note: Callable[[str], object]) -> list[Client]:
    """The clients of process `process`; every process has its share of both transports."""
    load = Load(**options["load"])
    # Valid for a node whose clock is wrong by an hour: what a wrong clock does to tokens is not what is tested.
    issued_s = time.time() - _TOKEN_S / 2
    return [
        Client(
            f"{'p' if load.is_polling(number) else 'w'}{number}",
            polling=load.is_polling(number),
            channels=load.channels_of(number),
            token=token(f"user-{number}", *PATTERNS, now_s=issued_s, expires_in_s=_TOKEN_S),
            door=("127.0.0.1", options["port"]),
            # Another network each, for proxies that tell clients apart by address.
            source=f"127.0.{1 + number % 250}.{1 + number // 250}",
            note=note,
            counts=counts,
        )
        for number in range(load.clients)
        if number // 3 % load.processes == options["process"]
    ]


async def main(options: dict[str, Any], note: Callable[[str], object]) -> None:
    counts = Counts()
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    threading.Thread(target=lambda: (sys.stdin.read(), loop.call_soon_threadsafe(ended.set)), daemon=True).start()
    clients = create_clients(options, counts, note)
    tasks = []
    for client in clients:
        tasks.append(asyncio.create_task(client.run()))
        await asyncio.sleep(_START_S)
    while not ended.is_set():
        now_s = time.monotonic()
        for client in clients:
            client.watch(now_s)
        gone = [task for task in tasks if task.done()]
        for task in gone:
            # A mistake in the client ends all of them, loudly.
            task.result()
        print(json.dumps({**asdict(counts), "clients": len(clients), "gone": len(gone)}), flush=True)
        await asyncio.sleep(_TELL_S)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    options = json.loads(sys.argv[1])
    gc.freeze()
    with Path(options["file"]).open("w", encoding="utf-8", buffering=1 << 16) as written:
        asyncio.run(main(options, written.write))
