"""A client of its own: speaks Engine.IO 4 and Socket.IO 5 by hand, remembers its cursor, comes back by the rules.

It notes everything that it is told, in the form of tests/support/history.py. The rules are those of PROTOCOL.md:
the highest cursor of the newest epoch is the one to remember; a close with a number below 4500 means to come back, at
once from a node that drains, otherwise after a back-off; whoever hears no ping in time takes itself for cut off.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from faults.load import MARK
from faults.wire import Requests, Socket
from tidings.backoff import delay_s
from tidings.codes import CODES

OPENING_S = 5.0
_BACKOFF_BASE_S = 0.5
_BACKOFF_CAP_S = 4.0
_DRAINED_S = 0.1
_POLLING = b"/socket.io/?EIO=4&transport=polling"
_SEPARATOR = b"\x1e"


@dataclass(slots=True)
class Counts:
    """What the clients of one process did so far."""

    ready: int = 0
    got: int = 0
    marked: int = 0
    returns: int = 0
    unrecovered: int = 0
    gaps: int = 0


class Client:
    """One client. `source` is the address that it comes from; `note` writes one line."""

    def __init__(
        self,
        name: str,
        *,
        polling: bool,
        channels: list[str],
        token: str,
        door: tuple[str, int],
        source: str,
        note: Callable[[str], object],
        counts: Counts,
    ) -> None:
        self.name = name
        self._polling = polling
        self._asked: dict[str, object] = {"token": token, "channels": channels}
        self._channels = channels
        self._door = door
        self._source = source
        self._note = note
        self._counts = counts
        self._since: str | None = None
        self._known = False
        self._marks: set[str] = set()
        self._attempt = 0
        self._session: _Session | None = None

    async def run(self) -> None:
        """Connect, and again whenever the connection ends, until a close forbids it."""
        while True:
            session = self._session = _PollingSession(self) if self._polling else _SocketSession(self)
            try:
                why = await session.live()
            finally:
                session.abort()
            self._counts.ready -= session.ready
            self._write("cut", "", why=why)
            if session.final:
                self._write("gone", "", why=why)
                return
            if why == "draining":
                self._attempt = 0
                await asyncio.sleep(delay_s(0, base_s=_DRAINED_S))
            else:
                await asyncio.sleep(delay_s(self._attempt, base_s=_BACKOFF_BASE_S, cap_s=_BACKOFF_CAP_S))
                self._attempt += 1

    def watch(self, now_s: float) -> None:
        """Give the connection up if nothing was heard for too long. Call it often."""
        session = self._session
        if session is not None and now_s > session.deadline_s:
            session.end("silence")

    def connect_packet(self) -> bytes:
        """The CONNECT packet."""
        since = {} if self._since is None else {"since": self._since}
        return b"40" + json.dumps(self._asked | since, separators=(",", ":")).encode()

    async def open(self, protocol: Callable[[], asyncio.Protocol]) -> None:
        """One TCP connection."""
        await asyncio.get_running_loop().create_connection(protocol, *self._door, local_addr=(self._source, 0))

    def event(self, text: bytes) -> None:
        """A publication, or something that the hub says by itself."""
        name, data, *more = json.loads(text)
        if not name.startswith("tidings:"):
            channel, cursor = more
            self._write("got", channel, id=data["id"], cursor=cursor)
            self._remember(cursor)
            self._counts.got += 1
            if data["id"].startswith(MARK) and channel not in self._marks:
                self._marks.add(channel)
                self._counts.marked += len(self._marks) == len(self._channels)
        elif name == "tidings:ready":
            self._ready(data)
        elif name == "tidings:gap":
            self._counts.gaps += len(data["channels"])
            for channel in data["channels"]:
                self._write("lost", channel, cursor=data["cursor"])
            self._remember(data["cursor"])
        elif name == "tidings:close" and self._session is not None:
            self._session.close_reason = data["code"]
            self._session.final = not CODES[data["code"]].should_reconnect

    def _ready(self, data: dict[str, object]) -> None:
        assert self._session is not None
        self._session.ready = True
        self._attempt = 0
        self._counts.ready += 1
        self._counts.returns += self._known
        cursor, answers = data["cursor"], data["channels"]
        assert isinstance(cursor, str)
        assert isinstance(answers, dict)
        for channel in self._channels:
            if "recovered" not in answers[channel]:
                self._write("refused", channel, error=answers[channel]["error"]["code"])
            elif not self._known:
                self._write("subscribed", channel, cursor=cursor)
            else:
                assert self._since is not None
                recovered = answers[channel]["recovered"]
                self._counts.unrecovered += not recovered
                self._write("back", channel, cursor=cursor, since=self._since, recovered=recovered)
        self._known = True
        self._since = cursor

    def _remember(self, cursor: str) -> None:
        (epoch, seq), *_ = _places(cursor)
        if self._since is None or seq > dict(_places(self._since)).get(epoch, -1):
            self._since = cursor

    def _write(self, do: str, channel: str, **more: object) -> None:
        line = {"who": self.name, "do": do, "channel": channel, **more, "at": round(time.monotonic(), 6)}
        self._note(json.dumps(line) + "\n")


def _places(cursor: str) -> list[tuple[str, int]]:
    """Epoch and seq of each bucket; one unless the broker is a cluster."""
    places = [place.partition(".") for place in cursor.split("~")]
    return [(epoch, int(seq)) for epoch, _, seq in places]


class _Session:
    """One connection from its first byte to its last."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.ready = False
        self.close_reason = ""
        self.final = False
        self.deadline_s = time.monotonic() + OPENING_S
        self._alive_s = OPENING_S
        self._over: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def live(self) -> str:
        """From connecting to the end; returns why it ended."""
        try:
            async with asyncio.timeout(OPENING_S):
                await self.dial()
        except (OSError, TimeoutError) as error:
            return f"no connection: {type(error).__name__}"
        return await self._over

    def end(self, why: str) -> None:
        """It is over."""
        if not self._over.done():
            self._over.set_result(self.close_reason or why)

    def packet(self, text: bytes) -> None:
        """One Engine.IO packet."""
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
            refusal = json.loads(text[2:])["data"]["code"]
            self.final = not CODES[refusal].should_reconnect
            self.end(refusal)
        elif text.startswith(b"41"):
            self.final = True
            self.end("disconnect")
        elif text.startswith(b"1"):
            self.end("closed")

    async def dial(self) -> None:
        """Connect."""
        raise NotImplementedError

    def opened(self, sid: str) -> None:
        """The handshake was answered."""

    def send(self, text: bytes) -> None:
        """One Engine.IO packet to the hub."""
        raise NotImplementedError

    def abort(self) -> None:
        """Close the sockets."""
        raise NotImplementedError


class _SocketSession(_Session):
    """Over WebSocket from the beginning."""

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._socket: Socket | None = None

    async def dial(self) -> None:
        self._socket = Socket("localhost", self.packet, self.end)
        socket = self._socket
        await self.client.open(lambda: socket)

    def send(self, text: bytes) -> None:
        assert self._socket is not None
        self._socket.send(text)

    def abort(self) -> None:
        if self._socket is not None:
            self._socket.abort()


class _PollingSession(_Session):
    """Over long polling: an HTTP connection for what is heard and one for what is said, made anew when closed."""

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._path = _POLLING
        self._polls = Requests("localhost", self._polled, self.end)
        self._posts = Requests("localhost", self._posted, self.end)
        self._dialling: set[asyncio.Task[None]] = set()
        self._waiting: list[bytes] = []
        self._posting = False

    async def dial(self) -> None:
        await self.client.open(lambda: self._polls)
        await self.client.open(lambda: self._posts)
        self._polls.ask(b"GET", self._path)

    def opened(self, sid: str) -> None:
        self._path = _POLLING + b"&sid=" + sid.encode()

    def send(self, text: bytes) -> None:
        self._waiting.append(text)
        self._post()

    def abort(self) -> None:
        for task in self._dialling:
            task.cancel()
        self._polls.abort()
        self._posts.abort()

    def _polled(self, status: int, body: bytes) -> None:
        if status != 200:
            self.end(f"status {status}")
            return
        for packet in body.split(_SEPARATOR):
            self.packet(packet)
        if self._over.done():
            return
        if self._polls.over:
            self._polls = Requests("localhost", self._polled, self.end)
            self._spawn(self._redial(self._polls, b"GET", b""))
        else:
            self._polls.ask(b"GET", self._path)

    def _posted(self, status: int, body: bytes) -> None:
        self._posting = False
        if status != 200:
            self.end(f"status {status} to a POST")
        else:
            self._post()

    def _post(self) -> None:
        if not self._waiting or self._posting or self._over.done():
            return
        self._posting = True
        body = _SEPARATOR.join(self._waiting)
        self._waiting.clear()
        if self._posts.over:
            self._posts = Requests("localhost", self._posted, self.end)
            self._spawn(self._redial(self._posts, b"POST", body))
        else:
            self._posts.ask(b"POST", self._path, body)

    def _spawn(self, dialling: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(dialling)
        self._dialling.add(task)
        task.add_done_callback(self._dialling.discard)

    async def _redial(self, requests: Requests, method: bytes, body: bytes) -> None:
        try:
            await self.client.open(lambda: requests)
        except OSError as error:
            self.end(f"no connection: {type(error).__name__}")
        else:
            requests.ask(method, self._path, body)
