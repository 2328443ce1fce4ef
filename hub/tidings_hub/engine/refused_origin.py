"""Refuse the pages of other origins in a way that they can read.

A page can read a response of another origin only if the response allows it (Fetch standard, CORS protocol). It never
sees why a WebSocket handshake failed. So every page may read the refusal, and a WebSocket is accepted and then closed
with the reason. No session exists meanwhile.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Final, Protocol

from tidings.codes import CODES
from tidings.errors import BadPacket
from tidings_hub.core.frame import text_frame
from tidings_hub.engine.protocols import engineio, websocket
from tidings_hub.engine.protocols.http_query import parse_query
from tidings_hub.log import log_rate_limited

if TYPE_CHECKING:
    from tidings_hub.engine.limits import EngineOptions
    from tidings_hub.engine.protocols.http_request import RequestHead
    from tidings_hub.engine.pump import Pump

_CODE = CODES["bad_origin"]
# The origins of files and sandboxed frames (HTML standard, "opaque origin"). Every site can have such a page.
_OPAQUE: Final = frozenset({"null", "file://"})
_SERVE_IT: Final = "A file or sandboxed page has no origin that can be allowed: serve it over HTTP."
_READABLE: Final = b"Access-Control-Allow-Origin: *\r\n"


class RefusableHandshake(Protocol):
    """An HTTP connection with a request that can be refused."""

    extra_headers: bytes

    def refuse(self, status: int, body: bytes, *, close: bool = False) -> None:
        """Respond with an error."""

    def accept_upgrade(self, response: bytes) -> int | None:
        """Send the response to a WebSocket handshake and release the descriptor. None: the connection broke."""


def log_refused_origin(log: logging.Logger, origin: str, host: str) -> None:
    """Log how to allow the page, if it should be."""
    if origin in _OPAQUE:
        log_rate_limited(log, logging.WARNING, "no origin", "a page was refused (Origin: %s): %s", origin, _SERVE_IT)
        return
    log_rate_limited(
        log,
        logging.WARNING,
        "bad origin",
        "a page of the origin %r was refused (host %r); if it is yours, add it to `origins`; behind a proxy with TLS,"
        " list the proxy in `trusted_proxies`",
        origin,
        host,
    )


def log_refused_host(log: logging.Logger, host: str) -> None:
    """Log how to allow the host of a page, if it should be."""
    log_rate_limited(
        log,
        logging.WARNING,
        "bad host",
        "a request with the Host header %r was refused: --dev serves this machine only; if a page has this address,"
        " list it in `origins`",
        host,
    )


def refuse_origin(
    http_connection: RefusableHandshake, head: RequestHead, options: EngineOptions, pump: Pump, *, is_engineio: bool
) -> None:
    """Respond to a request of a page whose origin is not allowed."""
    message = _SERVE_IT if head.headers.get("origin") in _OPAQUE else _CODE.advice
    if is_engineio and head.wants_websocket and _refuse_websocket(http_connection, head, options, pump, message):
        return
    http_connection.extra_headers += _READABLE
    error = {"error": {"code": _CODE.name, "message": message}}
    body = engineio.FORBIDDEN.body(_CODE.name, message) if is_engineio else json.dumps(error).encode()
    http_connection.refuse(_CODE.http_status, body, close=True)


def _refuse_websocket(
    http_connection: RefusableHandshake, head: RequestHead, options: EngineOptions, pump: Pump, message: str
) -> bool:
    """Accept a WebSocket that would open a session, and close it with the reason. Return whether it was accepted."""
    query = parse_query(head) or {}
    action = engineio.open_action(head.method, query, upgrade=True)
    if "sid" in query or action is not engineio.RequestAction.OPEN_WEBSOCKET:
        return False
    try:
        response = websocket.handshake_response(head.headers)
    except BadPacket:
        return False
    fd = http_connection.accept_upgrade(response)
    if fd is not None:
        open_packet = engineio.open_packet(
            "refused",
            (),
            ping_interval_ms=options.ping_interval_ms,
            ping_timeout_ms=options.ping_timeout_ms,
            max_payload_bytes=options.max_payload_bytes,
        )
        # After CONNECT_ERROR a stock client does not reconnect.
        error = {"message": message, "data": {"code": _CODE.name, "message": message}}
        refusal = text_frame(open_packet) + text_frame(b"44" + json.dumps(error).encode())
        pump.linger(fd, None, refusal + websocket.close_frame(_CODE.number, _CODE.name))
    return True
