"""A minimal client for Engine.IO 4 and Socket.IO 5. It stores its cursor and reconnects as PROTOCOL.md requires.

It records everything that it receives, in the format of tests/support/history.py. The rules of PROTOCOL.md:

- The client stores the highest cursor of the newest epoch.
- It reconnects after a close with a number below 4500: immediately if the node drains, otherwise after a back-off.
- It closes its connection if no ping arrives in time.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from faults.load import MARK
from faults.wire import HttpProtocol, WebSocketProtocol
from tidings.backoff import delay_s
from tidings.codes import CODES, RECONNECT_MAX

OPENING_S = 5.0
_BACKOFF_BASE_S = 0.5
_BACKOFF_CAP_S = 4.0
_DRAINED_S = 0.1
_POLLING = b"/socket.io/?EIO=4&transport=polling"
_SEPARATOR = b"\x1e"


@dataclass(slots=True)
class Counts:
    """Counters of the clients of one process."""

    ready: int = 0
    received: int = 0
    marked: int = 0
    returns: int = 0
    unrecovered: int = 0
    gaps: int = 0


class Client:
    """One client. `address` is the server's, `source` its own IP address; `write_line` appends to the history.

    `sends_t`: whether its requests have a `t` that identifies them, as those of socket.io-client have.
    """

    def __init__(
        self,
        name: str,
        *,
        polling: bool,
        sends_t: bool,
        channels: list[str],
        token: str,
        address: tuple[str, int],
        source: str,
        write_line: Callable[[str], object],
        counts: Counts,
    ) -> None:
        self.name = name
        self._polling = polling
        self.sends_t = sends_t
        self._connect_payload: dict[str, object] = {"token": token, "channels": channels}
        self._channels = channels
        self._address = address
        self._source = source
        self._write_line = write_line
        self._counts = counts
        self._since: str | None = None
        self._has_subscribed = False
        self._marked_channels: set[str] = set()
        self._attempt = 0
        self._session: _Session | None = None

    async def run(self) -> None:
        """Connect, and reconnect whenever the connection ends, until a close forbids it."""
        while True:
            session = self._session = _PollingSession(self) if self._polling else _SocketSession(self)
            try:
                reason = await session.run()
            finally:
                session.abort()
            self._counts.ready -= session.ready
            self._record("cut", "", why=reason)
            if session.final:
                self._record("gone", "", why=reason)
                return
            if reason == "draining":
                self._attempt = 0
                await asyncio.sleep(delay_s(0, base_s=_DRAINED_S))
            else:
                await asyncio.sleep(delay_s(self._attempt, base_s=_BACKOFF_BASE_S, cap_s=_BACKOFF_CAP_S))
                self._attempt += 1

    def watch(self, now_s: float) -> None:
        """Close the connection if nothing has arrived for too long. Call it often."""
        session = self._session
        if session is not None and now_s > session.deadline_s:
            session.end("silence")

    def connect_packet(self) -> bytes:
        """The CONNECT packet."""
        since = {} if self._since is None else {"since": self._since}
        return b"40" + json.dumps(self._connect_payload | since, separators=(",", ":")).encode()

    async def open(self, protocol: Callable[[], asyncio.Protocol]) -> None:
        """Open one TCP connection."""
        await asyncio.get_running_loop().create_connection(protocol, *self._address, local_addr=(self._source, 0))

    def event(self, text: bytes) -> None:
        """Handle a publication or an event of the hub."""
        name, data, *more = json.loads(text)
        if not name.startswith("tidings:"):
            channel, cursor = more
            self._record("got", channel, id=data["id"], cursor=cursor)
            self._remember(cursor)
            self._counts.received += 1
            if data["id"].startswith(MARK) and channel not in self._marked_channels:
                self._marked_channels.add(channel)
                self._counts.marked += len(self._marked_channels) == len(self._channels)
        elif name == "tidings:ready":
            self._ready(data)
        elif name == "tidings:gap":
            self._counts.gaps += len(data["channels"])
            for channel in data["channels"]:
                self._record("lost", channel, cursor=data["cursor"])
            self._remember(data["cursor"])
        elif name == "tidings:close" and self._session is not None:
            self._session.close_code = data["code"]
            self._session.final = not CODES[data["code"]].should_reconnect

    def _ready(self, data: dict[str, object]) -> None:
        assert self._session is not None
        self._session.ready = True
        self._attempt = 0
        self._counts.ready += 1
        self._counts.returns += self._has_subscribed
        cursor, results = data["cursor"], data["channels"]
        assert isinstance(cursor, str)
        assert isinstance(results, dict)
        for channel in self._channels:
            if "recovered" not in results[channel]:
                self._record("refused", channel, error=results[channel]["error"]["code"])
            elif not self._has_subscribed:
                self._record("subscribed", channel, cursor=cursor)
            else:
                assert self._since is not None
                recovered = results[channel]["recovered"]
                self._counts.unrecovered += not recovered
                self._record("back", channel, cursor=cursor, since=self._since, recovered=recovered)
        self._has_subscribed = True
        self._since = cursor

    def _remember(self, cursor: str) -> None:
        (epoch, seq), *_ = _places(cursor)
        if self._since is None or seq > dict(_places(self._since)).get(epoch, -1):
            self._since = cursor

    def _record(self, do: str, channel: str, **more: object) -> None:
        line = {"who": self.name, "do": do, "channel": channel, **more, "at": round(time.monotonic(), 6)}
        self._write_line(json.dumps(line) + "\n")


def _places(cursor: str) -> list[tuple[str, int]]:
    """Epoch and seq of each bucket. Only a cluster has several."""
    places = [place.partition(".") for place in cursor.split("~")]
    return [(epoch, int(seq)) for epoch, _, seq in places]


class _Session:
    """One connection, from connecting to its end."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.ready = False
        self.close_code = ""
        self.final = False
        self.deadline_s = time.monotonic() + OPENING_S
        self._alive_s = OPENING_S
        self._end_reason: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def run(self) -> str:
        """Connect and wait for the end; return its reason."""
        try:
            async with asyncio.timeout(OPENING_S):
                await self.dial()
        except (OSError, TimeoutError) as error:
            return f"no connection: {type(error).__name__}"
        return await self._end_reason

    def end(self, reason: str) -> None:
        """End the session. After a close number from 4500 on the client does not return."""
        word, _, number = reason.partition(" ")
        self.final = self.final or (word == "close" and int(number) > RECONNECT_MAX)
        if not self._end_reason.done():
            self._end_reason.set_result(self.close_code or reason)

    def packet(self, text: bytes) -> None:
        """Handle one Engine.IO packet."""
        self.deadline_s = time.monotonic() + self._alive_s
        if text.startswith(b"42"):
            self.client.event(text[2:])
        elif text.startswith(b"2"):
            self.send(b"3")
        elif text.startswith(b"0"):
            opened = json.loads(text[1:])
            self._alive_s = (opened["pingInterval"] + opened["pingTimeout"]) / 1000
            self.opened(opened["sid"])
            self.send(self.client.connect_packet())
        elif text.startswith(b"44"):
            code = json.loads(text[2:])["data"]["code"]
            self.final = not CODES[code].should_reconnect
            self.end(code)
        elif text.startswith(b"41"):
            self.final = True
            self.end("disconnect")
        elif text.startswith(b"1"):
            self.end("closed")

    async def dial(self) -> None:
        """Connect."""
        raise NotImplementedError

    def opened(self, sid: str) -> None:
        """Called after the Engine.IO handshake."""

    def send(self, text: bytes) -> None:
        """Send one Engine.IO packet."""
        raise NotImplementedError

    def abort(self) -> None:
        """Close the sockets."""
        raise NotImplementedError


class _SocketSession(_Session):
    """A connection over WebSocket, without long polling first."""

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._socket: WebSocketProtocol | None = None

    async def dial(self) -> None:
        self._socket = WebSocketProtocol("localhost", self.packet, self.end)
        socket = self._socket
        await self.client.open(lambda: socket)

    def send(self, text: bytes) -> None:
        assert self._socket is not None
        self._socket.send(text)

    def abort(self) -> None:
        if self._socket is not None:
            self._socket.abort()


class _PollingSession(_Session):
    """A connection over long polling: one HTTP connection for GET and one for POST, reopened when closed."""

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._path = _POLLING
        self._polls = HttpProtocol("localhost", self._on_poll, self.end)
        self._posts = HttpProtocol("localhost", self._on_post, self.end)
        self._dialling: set[asyncio.Task[None]] = set()
        self._unsent: list[bytes] = []
        self._posting = False
        self._requests = 0

    async def dial(self) -> None:
        await self.client.open(lambda: self._polls)
        await self.client.open(lambda: self._posts)
        self._polls.request(b"GET", self._target())

    def _target(self) -> bytes:
        self._requests += 1
        return self._path + (b"&t=request%d" % self._requests if self.client.sends_t else b"")

    def opened(self, sid: str) -> None:
        self._path = _POLLING + b"&sid=" + sid.encode()

    def send(self, text: bytes) -> None:
        self._unsent.append(text)
        self._post()

    def abort(self) -> None:
        for task in self._dialling:
            task.cancel()
        self._polls.abort()
        self._posts.abort()

    def _on_poll(self, status: int, body: bytes) -> None:
        if status != 200:
            self.end(f"status {status}")
            return
        for packet in body.split(_SEPARATOR):
            self.packet(packet)
        if self._end_reason.done():
            return
        if self._polls.is_unusable:
            self._polls = HttpProtocol("localhost", self._on_poll, self.end)
            self._spawn(self._redial(self._polls, b"GET", b""))
        else:
            self._polls.request(b"GET", self._target())

    def _on_post(self, status: int, body: bytes) -> None:
        self._posting = False
        if status != 200:
            self.end(f"status {status} to a POST")
        else:
            self._post()

    def _post(self) -> None:
        if not self._unsent or self._posting or self._end_reason.done():
            return
        self._posting = True
        body = _SEPARATOR.join(self._unsent)
        self._unsent.clear()
        if self._posts.is_unusable:
            self._posts = HttpProtocol("localhost", self._on_post, self.end)
            self._spawn(self._redial(self._posts, b"POST", body))
        else:
            self._posts.request(b"POST", self._target(), body)

    def _spawn(self, dialling: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(dialling)
        self._dialling.add(task)
        task.add_done_callback(self._dialling.discard)

    async def _redial(self, requests: HttpProtocol, method: bytes, body: bytes) -> None:
        try:
            await self.client.open(lambda: requests)
        except OSError as error:
            self.end(f"no connection: {type(error).__name__}")
        else:
            requests.request(method, self._target(), body)
