"""A stock python-socketio client that prints what it receives; the Python version of client.mjs.

It is the asyncio client: the threaded one runs each event in a separate thread, and loses their order.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from typing import Any

import aiohttp
import socketio

options = json.loads(sys.argv[1])
since: str | None = options.get("since")


def http_session() -> aiohttp.ClientSession:
    """Connect from the address `source`, if it is set, like a client of another network."""
    source = options.get("source")
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(local_addr=(source, 0) if source else None))


# The reconnection of python-socketio 5.18.1 gives up after some polling errors, so this program calls connect again.
client = socketio.AsyncClient(reconnection=False, http_session=http_session)


def say(kind: str, **record: object) -> None:
    print(json.dumps({"at": int(time.time() * 1000), "kind": kind, **record}), flush=True)


def auth() -> dict[str, object]:
    auth = {"token": options.get("token"), "channels": options.get("channels", [])}
    return {**auth, "since": since} if since else auth


@client.on("connect")
async def connect() -> None:
    say("connect", transport=client.transport())


@client.on("connect_error")
async def connect_error(data: object) -> None:
    say("connect_error", message=str(data), data=data)


@client.on("disconnect")
async def disconnect(reason: str) -> None:
    say("disconnect", reason=reason)


@client.on("*")
async def anything(event: str, data: Any, channel: str | None = None, cursor: str | None = None) -> None:
    global since
    if event.startswith("tidings:"):
        if event in ("tidings:ready", "tidings:gap"):
            since = data["cursor"]
        say(event.removeprefix("tidings:"), **data)
        return
    assert cursor is not None
    epoch, seq = cursor.partition("~")[0].split(".")
    last_seq = dict(place.split(".") for place in since.split("~")).get(epoch) if since else None
    if last_seq is None or int(seq) > int(last_seq):
        since = cursor
    say("publication", event=event, data=data, channel=channel, cursor=cursor)


async def ask(emit: str, data: object) -> None:
    await client.emit(emit, data, callback=lambda answer: say("ack", emit=emit, answer=answer))


def commands(loop: asyncio.AbstractEventLoop) -> None:
    for line in sys.stdin:
        command = json.loads(line)
        asyncio.run_coroutine_threadsafe(ask(command["emit"], command["data"]), loop)
    os._exit(0)


async def main() -> None:
    threading.Thread(target=commands, args=(asyncio.get_running_loop(),), daemon=True).start()
    while True:
        try:
            await client.connect(options["url"], auth=auth, transports=options["transports"])
            await client.wait()
        except socketio.exceptions.ConnectionError as error:
            say("connect_error", message=str(error))
        await asyncio.sleep(0.1)


asyncio.run(main())
