"""A stock python-socketio client that reconnects by itself, and prints each code that reaches it.

The Python version of client_codes.mjs.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
from typing import Any

import socketio

options = json.loads(sys.argv[1])
client = socketio.AsyncClient(reconnection_delay=0.1, reconnection_delay_max=1)


def say(kind: str, **record: object) -> None:
    print(json.dumps({"kind": kind, **record}), flush=True)


@client.on("connect")
async def connect() -> None:
    say("connect")


@client.on("tidings:ready")
async def ready(*_: object) -> None:
    say("ready")


@client.on("tidings:close")
async def close(data: dict[str, Any], *_: object) -> None:
    say("code", by="event", code=data["code"])


@client.on("connect_error")
async def connect_error(error: object) -> None:
    data = error.get("data") if isinstance(error, dict) else None
    say("code", by="connect_error", code=data["code"] if isinstance(data, dict) else None)


async def send(command: dict[str, Any]) -> None:
    for _ in range(command.get("times", 1)):
        if "raw" in command:
            await client.eio.send(command["raw"])
        else:
            await client.emit(command["emit"], command["data"])


def commands(loop: asyncio.AbstractEventLoop) -> None:
    for line in sys.stdin:
        asyncio.run_coroutine_threadsafe(send(json.loads(line)), loop)
    os._exit(0)


async def main() -> None:
    threading.Thread(target=commands, args=(asyncio.get_running_loop(),), daemon=True).start()
    auth = {"token": options.get("token"), "channels": options["channels"]}
    try:
        await client.connect(options["url"], auth=auth, transports=options["transports"])
        await client.wait()
    except socketio.exceptions.ConnectionError as error:
        say("failed", message=str(error))
    # `wait` returns when the client has given up.
    say("step", returns=False)
    await asyncio.Event().wait()


asyncio.run(main())
