"""Requests for event streams."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tidings.codes import CODES
from tidings_hub import runtime
from tidings_hub.engine.connection import Connection
from tidings_hub.engine.engineio import Kind
from tidings_hub.engine.engineio_handler import query_of
from tidings_hub.engine.interfaces import Opening

if TYPE_CHECKING:
    from tidings_hub.engine.http import Head
    from tidings_hub.engine.http_connection import Link
    from tidings_hub.engine.mount import Mount

_socket: Any = runtime.original("socket")


def coded(name: str) -> bytes:
    """A code of `tidings.codes` as the JSON body of an answer."""
    return json.dumps({"code": name, "message": CODES[name].advice}).encode()


class Streams:
    """Turns a GET into a connection of kind SSE; the application accepts or refuses it."""

    __slots__ = ("draining", "mount")

    def __init__(self, mount: Mount) -> None:
        self.mount = mount
        self.draining = False

    def begin(self, link: Link, head: Head) -> int | None:
        """A stream's request has no body."""
        link.refuse(400, coded("bad_request"))
        return None

    def too_large(self, link: Link) -> None:
        """Never asked: `begin` allows no body."""
        link.refuse(413, coded("too_large"))

    def again(self, link: Link, line: bytes) -> bool:
        """Nothing here is worth a short way."""
        return False

    def finish(self, link: Link, head: Head, body: bytes) -> None:
        """A complete request."""
        query = query_of(head)
        if head.method != "GET":
            link.refuse(405, coded("not_allowed"))
        elif query is None:
            link.refuse(400, coded("bad_request"))
        elif self.draining:
            link.refuse(503, coded("draining"))
        elif not self.mount.crowded(link):
            opening = Opening(head.path, query, head.headers, link.remote, link.secure, Kind.SSE)
            fd = link.take()
            self._notice_death(fd)
            mount = self.mount
            connection = Connection(mount, mount.new_sid(), Kind.SSE, link.remote, fd=fd, extra=link.extra)
            mount.pump.give(fd, connection)
            mount.admit(connection, opening)

    def _notice_death(self, fd: int) -> None:
        # An event stream's client never answers: a peer that vanished is noticed by the kernel,
        # when it has not acknowledged our comment for so long (tcp(7), TCP_USER_TIMEOUT).
        options = self.mount.options
        ours = _socket.socket(fileno=fd)
        try:
            ours.setsockopt(
                _socket.IPPROTO_TCP, _socket.TCP_USER_TIMEOUT, options.ping_interval_ms + options.ping_timeout_ms
            )
        finally:
            ours.detach()
