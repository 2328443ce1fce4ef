"""One process with many clients. It prints their counters as lines of JSON and ends when its stdin ends."""

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

_REPORT_S = 0.25
_TOKEN_S = 86_400.0
# Clients start one after the other: mass connects are not tested here.
_START_S = 0.002


def own_clients(options: dict[str, Any], counts: Counts, write_line: Callable[[str], object]) -> list[Client]:
    """Create the clients of this process. Every process has its share of both transports."""
    load = Load(**options["load"])
    # Valid also for a node whose clock is wrong by an hour: tokens are not tested here.
    issued_s = time.time() - _TOKEN_S / 2
    return [
        Client(
            f"{'p' if load.is_polling(number) else 'w'}{number}",
            polling=load.is_polling(number),
            sends_t=number % 2 == 0,
            channels=load.channels_of(number),
            token=token(f"user-{number}", *PATTERNS, now_s=issued_s, expires_in_s=_TOKEN_S),
            address=("127.0.0.1", options["port"]),
            # Different networks, for proxies that distinguish clients by address.
            source=f"127.0.{1 + number % 250}.{1 + number // 250}",
            write_line=write_line,
            counts=counts,
        )
        for number in range(load.clients)
        if number // 3 % load.processes == options["process"]
    ]


async def main(options: dict[str, Any], write_line: Callable[[str], object]) -> None:
    counts = Counts()
    stdin_closed = asyncio.Event()
    loop = asyncio.get_running_loop()
    threading.Thread(
        target=lambda: (sys.stdin.read(), loop.call_soon_threadsafe(stdin_closed.set)), daemon=True
    ).start()
    clients = own_clients(options, counts, write_line)
    tasks = []
    for client in clients:
        tasks.append(asyncio.create_task(client.run()))
        await asyncio.sleep(_START_S)
    while not stdin_closed.is_set():
        now_s = time.monotonic()
        for client in clients:
            client.watch(now_s)
        finished = [task for task in tasks if task.done()]
        for task in finished:
            # Raises an unexpected error of a client, which ends the process.
            task.result()
        print(json.dumps({**asdict(counts), "clients": len(clients), "gone": len(finished)}), flush=True)
        await asyncio.sleep(_REPORT_S)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    options = json.loads(sys.argv[1])
    gc.freeze()
    with Path(options["file"]).open("w", encoding="utf-8", buffering=1 << 16) as file:
        asyncio.run(main(options, file.write))
