"""A simple reader of server-sent events that reconnects with Last-Event-ID, like EventSource in a browser."""

from __future__ import annotations

import http.client
import json
import os
import sys
import threading
import time
from urllib.parse import urlsplit

options = json.loads(sys.argv[1])
address = urlsplit(options["url"])
last_id: str | None = options.get("since")


def say(kind: str, **record: object) -> None:
    print(json.dumps({"at": int(time.time() * 1000), "kind": kind, **record}), flush=True)


def dispatch(event: str, data: str) -> None:
    content = json.loads(data)
    if event.startswith("tidings:"):
        say(event.removeprefix("tidings:"), **content)
    else:
        say("publication", event=event, data=content["data"], channel=content["channel"], cursor=last_id)


def read_stream() -> None:
    global last_id
    source = (options["source"], 0) if "source" in options else None
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60, source_address=source)
    headers = {"Authorization": f"Bearer {options['token']}", "Accept": "text/event-stream"}
    if last_id:
        headers["Last-Event-ID"] = last_id
    connection.request("GET", "/sse?channels=" + ",".join(options["channels"]), headers=headers)
    answer = connection.getresponse()
    if answer.status != 200:
        say("connect_error", message=str(answer.status), data=json.loads(answer.read()))
        if answer.status in (401, 403):
            sys.stdin.read()
        raise OSError(answer.status)
    say("connect", transport="sse")
    event, data, pending = "message", "", None
    while line := answer.readline():
        field, _, value = line.decode().rstrip("\n").partition(": ")
        if field == "id":
            pending = value
        elif field == "event":
            event = value
        elif field == "data":
            data = value
        elif not line.strip() and data:
            last_id = pending or last_id
            dispatch(event, data)
            event, data, pending = "message", "", None
    say("disconnect", reason="end of stream")


def until_stdin_ends() -> None:
    sys.stdin.read()
    os._exit(0)


threading.Thread(target=until_stdin_ends, daemon=True).start()
while True:
    try:
        read_stream()
    except (OSError, http.client.HTTPException) as error:
        say("disconnect", reason=type(error).__name__)
    time.sleep(0.2)
