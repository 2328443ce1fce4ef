"""A WSGI application whose emitter has published before the server forks its workers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from tidings import Emitter

emitter = Emitter(os.environ["TIDINGS_URL"], api_key=os.environ.get("TIDINGS_API_KEY"), timeout_s=20)
CHANNEL = os.environ["SHOP_CHANNEL"]
emitter.emit("loaded", os.getpid(), channel=CHANNEL)


def app(environ: dict[str, str], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Publish the request's path in the shop's channel; return the receipt's cursor and the worker's process id."""
    receipt = emitter.emit("e", environ["PATH_INFO"], channel=CHANNEL)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{receipt.cursor} {os.getpid()}".encode()]
