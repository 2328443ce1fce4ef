"""The two ends of a request that is handled twice over ASGI: its body as it came, and the response of its job."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from tidings.contrib.background.answers import stored_headers
from tidings.contrib.background.bounds import JobBounds
from tidings.contrib.background.job import StoredResponse
from tidings.contrib.background.jobs import check_response
from tidings.errors import TooLarge

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]


class RecordedBody:
    """The body of one request, recorded while the application reads it, up to `most_bytes`."""

    def __init__(self, receive: Receive, most_bytes: int) -> None:
        self._receive = receive
        self._most_bytes = most_bytes
        self._chunks: list[bytes] = []
        self._size_bytes = 0
        self._is_complete = False

    async def receive(self) -> Message:
        """The next message for the application."""
        message = await self._receive()
        if message["type"] == "http.request":
            chunk = message.get("body", b"")
            self._size_bytes += len(chunk)
            self._is_complete = not message.get("more_body", False)
            if self._size_bytes <= self._most_bytes:
                self._chunks.append(chunk)
            else:
                self._chunks = []
        return message

    async def whole(self) -> bytes:
        """The whole body, after the application has read a part or all of it.

        Raises:
            TooLarge: it is above `request_max_bytes`.
        """
        while not self._is_complete and self._size_bytes <= self._most_bytes:
            if (await self.receive())["type"] == "http.disconnect":
                break
        if self._size_bytes > self._most_bytes:
            raise TooLarge(
                f"the request of a background job has more than {self._most_bytes} bytes (request_max_bytes)"
            )
        return b"".join(self._chunks)


class ResponseCollector:
    """The client of a request that is handled in a job."""

    def __init__(self, bounds: JobBounds, body: bytes) -> None:
        self.error: TooLarge | None = None
        self._bounds = bounds
        self._request: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        self._start: MutableMapping[str, Any] = {"status": 500, "headers": []}
        self._body = bytearray()

    async def receive(self) -> Message:
        """The body, and then nothing: this client does not disconnect."""
        if self._request:
            return self._request.pop()
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    async def send(self, message: Message) -> None:
        """Collect a part of the response."""
        if message["type"] == "http.response.start":
            self._start = message
        elif message["type"] == "http.response.body":
            self._body += message.get("body", b"")
            try:
                check_response(len(self._body), self._bounds)
            except TooLarge as error:
                # Others may wrap it in an ExceptionGroup.
                self.error = error
                raise

    def response(self) -> StoredResponse:
        """The whole response."""
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in self._start["headers"]]
        return StoredResponse(self._start["status"], stored_headers(headers), bytes(self._body))
