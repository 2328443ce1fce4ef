"""The Python peer: python-socketio with default settings, on eventlet, with its RedisManager.

    python socketio_server.py REDIS_URL SECRET     prints {"port": N}

A client authenticates with {"token", "channels"} in its CONNECT packet and enters a room per channel and a room for
its user. Tuned as its documentation advises: backlog and pool are large enough for the clients, and polling responses
are not compressed.
"""

from __future__ import annotations

import eventlet

eventlet.monkey_patch()

import json  # noqa: E402  (after monkey_patch, as eventlet requires)
import sys  # noqa: E402
from typing import Any  # noqa: E402

import eventlet.wsgi  # noqa: E402
import jwt  # noqa: E402
import socketio  # noqa: E402

_BACKLOG = 4096
_POOL = 40_000


def serve(redis_url: str, secret: str) -> None:
    """Serve on a free loopback port until killed."""
    server = socketio.Server(
        async_mode="eventlet",
        client_manager=socketio.RedisManager(redis_url),
        http_compression=False,
        cors_allowed_origins="*",
    )

    @server.event  # type: ignore[untyped-decorator]  # python-socketio has no types
    def connect(sid: str, environ: dict[str, Any], auth: dict[str, Any]) -> None:
        claims = jwt.decode(auth["token"], secret, algorithms=["HS256"])
        for channel in (f"user:{claims['sub']}", *auth.get("channels", ())):
            server.enter_room(sid, channel)

    listener = eventlet.listen(("127.0.0.1", 0), backlog=_BACKLOG)
    sys.stdout.write(json.dumps({"port": listener.getsockname()[1]}) + "\n")
    sys.stdout.flush()
    eventlet.wsgi.server(
        listener, socketio.WSGIApp(server), max_size=_POOL, log_output=False, debug=False, keepalive=True
    )


if __name__ == "__main__":
    serve(*sys.argv[1:])
