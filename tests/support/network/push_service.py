"""A push service on loopback over real TLS, and the browsers whose subscriptions it has. It decrypts as they do."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

import http_ece
import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from support.network.certificates import Authority

_DAY_S = 86_400


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


@dataclass(frozen=True)
class Answer:
    """A response: after `delay_s`, or when `until` is set."""

    status: int = 201
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    until: asyncio.Event | None = None


class Browser:
    """One subscription of a browser."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.auth = secrets.token_bytes(16)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.p256dh = self._key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    def to_json(self, *, padded: bool = False) -> dict[str, Any]:
        """`PushSubscription.toJSON()`."""
        encode = (lambda data: base64.urlsafe_b64encode(data).decode()) if padded else base64url
        keys = {"p256dh": encode(self.p256dh), "auth": encode(self.auth)}
        return {"endpoint": self.endpoint, "expirationTime": None, "keys": keys}

    def decrypt(self, body: bytes) -> dict[str, Any]:
        """The message in the body of a push."""
        return json.loads(http_ece.decrypt(body, private_key=self._key, auth_secret=self.auth, version="aes128gcm"))


@dataclass(frozen=True)
class ReceivedPush:
    """A push as it arrived. `message` is decrypted if its browser is known."""

    path: str
    headers: dict[str, str]
    claims: dict[str, Any]
    message: dict[str, Any] | None
    at_s: float


class PushService:
    """Answers pushes with what `answer` returns for their path. It checks tokens as RFC 8292 requires."""

    def __init__(self, authority: Authority, *, name: str = "push") -> None:
        certificate, key = authority.issue(name)
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._tls.load_cert_chain(certificate, key)
        self.received: list[ReceivedPush] = []
        self.answer: Callable[[str], Answer] = lambda _path: Answer()
        self.in_flight = self.most_in_flight = self.connections = 0
        self.browsers: dict[str, Browser] = {}
        self._transport: asyncio.Transport | None = None
        self._started = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))
        self.origin = ""

    def subscribe(self, name: str = "") -> Browser:
        """A new subscription."""
        path = f"/send/{name or secrets.token_hex(8)}"
        browser = self.browsers[path] = Browser(self.origin + path)
        return browser

    def event(self) -> asyncio.Event:
        """An event for `Answer.until`; set it with `release`."""
        return asyncio.Event()

    def release(self, event: asyncio.Event) -> None:
        """Let the responses that wait for `event` go."""
        self._loop.call_soon_threadsafe(event.set)

    def send_unasked(self, data: bytes) -> None:
        """Send bytes on the connection of the last push, as an answer to no request."""

        async def send() -> None:
            assert self._transport is not None
            self._transport.write(data)

        asyncio.run_coroutine_threadsafe(send(), self._loop).result(20)

    def messages(self) -> list[dict[str, Any]]:
        """The decrypted messages, in order of arrival."""
        return [push.message for push in list(self.received) if push.message is not None]

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(20)
        self._loop.close()

    @property
    def host(self) -> str:
        """Its host and port, for `hosts`."""
        return self.origin.removeprefix("https://")

    async def _serve(self) -> None:
        self._ended = asyncio.Event()
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self._tls, backlog=1024)
        await site.start()
        self.origin = f"https://127.0.0.1:{runner.addresses[0][1]}"
        self._started.set()
        await self._ended.wait()
        await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self._transport = request.transport
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            claims = self._check(request)
            browser = self.browsers.get(request.path)
            message = browser.decrypt(body) if browser else None
            self.received.append(ReceivedPush(request.path, dict(request.headers), claims, message, time.monotonic()))
            answer = self.answer(request.path)
            if answer.until is not None:
                await answer.until.wait()
            if answer.delay_s:
                await asyncio.sleep(answer.delay_s)
            return web.Response(status=answer.status, body=answer.body, headers=answer.headers)
        finally:
            self.in_flight -= 1

    def _check(self, request: web.Request) -> dict[str, Any]:
        scheme, _, parameters = request.headers["Authorization"].partition(" ")
        token, key = (part.strip().partition("=")[2] for part in parameters.split(","))
        point = base64.urlsafe_b64decode(key + "=" * (-len(key) % 4))
        claims: dict[str, Any] = jwt.decode(
            token,
            ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point),
            algorithms=["ES256"],
            audience=self.origin,
            options={"require": ["aud", "exp", "sub"]},
        )
        assert request.method == "POST", request.method
        assert scheme == "vapid", scheme
        assert claims["exp"] <= time.time() + _DAY_S
        assert request.headers["Content-Encoding"] == "aes128gcm"
        assert 0 <= int(request.headers["TTL"]) <= 28 * _DAY_S
        return claims
