"""One event stream: a connection that only sends (WHATWG HTML section 9.2)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tidings.codes import CODES
from tidings_hub.core.frame import LAST_CHUNK, as_chunk, join_sse
from tidings_hub.engine.connection import Connection
from tidings_hub.engine.protocols import event_source, http_response
from tidings_hub.engine.protocols.engineio import SERVER_DISCONNECT, TransportKind, UpgradeState

if TYPE_CHECKING:
    from tidings_hub.core.frame import OutgoingFrame
    from tidings_hub.engine.connection import ConnectionMount

_COMMENT = b":\n\n"


def stream_start(extra_headers: bytes, retry_ms: int, *, is_chunked: bool) -> bytes:
    """Render the head and the first line of a stream. `retry_ms`: how long a client waits before it reconnects."""
    retry = b"retry: %d\n\n" % retry_ms
    head = http_response.event_stream_head(extra_headers, is_chunked=is_chunked)
    return head + (as_chunk(retry) if is_chunked else retry)


class SseStream(Connection):
    """One client of an event stream, as the application sees it. It buffers all output until `accept`.

    `extra_headers`: header lines for the response. `is_chunked`: the client speaks HTTP/1.1. All bytes that are written
    to it are complete chunks then. `is_event_source`: see `protocols.event_source`.
    """

    __slots__ = ("extra_headers", "is_chunked", "is_event_source")

    def __init__(
        self,
        mount: ConnectionMount,
        sid: str,
        remote: str,
        *,
        fd: int,
        extra_headers: bytes,
        is_chunked: bool,
        is_event_source: bool = False,
    ) -> None:
        super().__init__(mount, sid, TransportKind.SSE, remote, fd=fd)
        self.extra_headers = extra_headers
        self.is_chunked = is_chunked
        self.is_event_source = is_event_source

    @property
    def _is_unanswered(self) -> bool:
        return not self.closed and self.upgrade_state is UpgradeState.PROBING

    def send(self, packet: bytes | str) -> None:
        """Send bytes of the stream as they are."""
        blob = packet.encode() if isinstance(packet, str) else packet
        if not self.closed:
            self.write(as_chunk(blob) if self.is_chunked else blob)

    def accept(self, *, retry_ms: int = 3000) -> None:
        """Respond with status 200, then send everything that is buffered.

        `retry_ms`: how long a client waits before it reconnects.
        """
        if not self._is_unanswered:
            return
        self.upgrade_state = UpgradeState.UPGRADED
        self.establish()
        buffered, self.out = self.out, None
        self._cork_depth -= 1
        self.write(stream_start(self.extra_headers, retry_ms, is_chunked=self.is_chunked))
        for part in buffered.parts if buffered is not None else ():
            self.write(bytes(part))

    def refuse(self, code: str, message: str) -> None:
        """Respond with an error of `tidings.codes`. Use it instead of `accept`.

        An EventSource never reconnects after an error status. So if it should, it gets a stream that ends after
        `tidings:close`.
        """
        if not self._is_unanswered:
            return
        if self.is_event_source and event_source.may_return(code):
            self.accept(retry_ms=event_source.retry_ms(code))
            self.close(code, message)
            return
        fd, self.fd = self.fd, -1
        headers = http_response.CLOSE + self.extra_headers
        if event_source.may_return(code):
            headers += http_response.retry_after_line()
        status = CODES[code].http_status
        body = json.dumps({"error": {"code": code, "message": message}}).encode()
        response = http_response.render(status, body, content_type=http_response.JSON, extra_headers=headers)
        self.mount.pump.linger(fd, None, response)
        self.end(SERVER_DISCONNECT, 0)

    def end(self, reason: str, close_code: int, text: str | None = None, message: str | None = None) -> None:
        """Close the stream. A client that has no response yet gets the code's status. See `Connection.end`."""
        if self._is_unanswered and self.fd >= 0 and close_code:
            self.refuse(reason, message or CODES[reason].advice)
        else:
            super().end(reason, close_code, text, message)

    def _last_bytes(self, frames: Sequence[OutgoingFrame], close_code: int, text: str) -> bytes:
        if not self.is_chunked:
            return join_sse(frames)
        return b"".join([frame.chunk for frame in frames]) + LAST_CHUNK

    def _heartbeat(self, now_s: float) -> None:
        if self.upgrade_state is not UpgradeState.PROBING and self.out is None:
            self.send(_COMMENT)
        self._heartbeat_due_s = now_s + self.mount.options.ping_interval_ms / 1000
