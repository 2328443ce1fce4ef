"""Sends one push message to a push service over HTTPS: no redirects, no proxies, and only to public addresses."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Self

import aiohttp
from aiohttp.connector import Connection
from yarl import URL

from tidings.errors import BadRequest
from tidings_hub.config.web_push import WebPush
from tidings_notifications.core.delivery import Failed, Gone, Outcome, Retry
from tidings_notifications.web_push.encryption import MessageKeys, encrypt
from tidings_notifications.web_push.endpoints import EndpointRules, origin_of
from tidings_notifications.web_push.resolver import NotPublicError, PublicResolver
from tidings_notifications.web_push.responses import UNAUTHORIZED, outcome_of
from tidings_notifications.web_push.vapid import VapidHeaders, VapidKey

logger = logging.getLogger("tidings.notifications")

# What is read of a response: enough for the words of an error.
_BODY_MAX_BYTES: Final = 1_024
# A lookup may hang for half a minute. Each push service has at most one at a time.
_LOOKUP_THREADS: Final = 32
_DNS_CACHE_S: Final = 60
_KEEP_ALIVE_S: Final = 30.0
_REASON_MAX: Final = 200
# So many refusals without a success in between are no matter of single subscriptions.
_REFUSALS_MAX: Final = 3
_SERVER_ERROR: Final = 500
# How many kept connections are tried for one push.
_CONNECTIONS_MAX: Final = 3


@dataclass(frozen=True, slots=True)
class PushMessage:
    """A message for one subscription. `topic` and `urgency`: RFC 8030 sections 5.3 and 5.4."""

    endpoint: str
    keys: MessageKeys
    payload: bytes
    ttl_s: int
    urgency: str = "normal"
    topic: str | None = None


@dataclass(frozen=True, slots=True)
class Push:
    """What came of a message. `is_healthy`: the push service responded, and its server did not fail."""

    outcome: Outcome
    is_healthy: bool = True


class _StrayAnswerError(aiohttp.ClientConnectionError):
    """Something has arrived on a kept connection. It is not the answer to the request that would be next."""


class _Request(aiohttp.ClientRequest):
    """A request whose answer cannot have arrived before it: else the outcome of one push would be that of another."""

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        """Send it.

        Raises:
            _StrayAnswerError: on a connection on which something has arrived.
        """
        if conn.protocol is not None and conn.protocol.should_close:
            if conn.transport is not None:
                conn.transport.abort()
            raise _StrayAnswerError("it sent an answer without a request")
        return await super().send(conn)


class PushClient:
    """The connections of one event loop. Create it in a coroutine, and use it as a context manager."""

    def __init__(self, options: WebPush, key: VapidKey) -> None:
        self._rules = EndpointRules(options.hosts, allow_private=options.allow_private)
        self._headers = VapidHeaders(key, options.contact)
        self._refusals = 0
        self._lookups = ThreadPoolExecutor(_LOOKUP_THREADS, thread_name_prefix="push lookup")
        asyncio.get_running_loop().set_default_executor(self._lookups)
        self._timeout_s = options.timeout_s
        tls = ssl.create_default_context()
        self._session = _session(options, tls, keepalive_timeout=_KEEP_ALIVE_S)
        # Each of its connections sends one push, so what arrives on it answers that push.
        self._unshared = _session(options, tls, force_close=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()
        await self._unshared.close()
        self._lookups.shutdown(wait=False, cancel_futures=True)

    async def push(self, message: PushMessage) -> Push:
        """Send a message. Raises nothing that a push service or a subscription can cause."""
        try:
            # The settings may have changed since the subscription was stored.
            url = URL(self._rules.check(message.endpoint), encoded=True)
        except (BadRequest, ValueError) as error:
            return Push(Failed(str(error)))
        try:
            return await self._exchange(url, message)
        except TimeoutError:
            return Push(Retry(None, f"no response within {self._timeout_s:g} s"), is_healthy=False)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            cause = getattr(error, "os_error", error)
            if isinstance(cause, NotPublicError):
                return Push(Failed(str(cause)), is_healthy=False)
            return Push(Retry(None, f"{type(error).__name__}: {error}"[:_REASON_MAX]), is_healthy=False)

    async def _exchange(self, url: URL, message: PushMessage) -> Push:
        headers = {
            "Authorization": self._headers.header(origin_of(message.endpoint)),
            "Content-Encoding": "aes128gcm",
            "TTL": str(message.ttl_s),
            "Urgency": message.urgency,
        }
        if message.topic is not None:
            headers["Topic"] = message.topic
        body = encrypt(message.payload, message.keys)
        outcome, status = await self._outcome(await self._post(url, body, headers))
        if isinstance(outcome, Gone):
            # On a kept connection it may be a late answer to another push, and it deletes the subscription.
            again = await self._unshared.post(url, data=body, headers=headers, allow_redirects=False)
            outcome, status = await self._outcome(again)
        return Push(outcome, is_healthy=status < _SERVER_ERROR)

    async def _outcome(self, response: aiohttp.ClientResponse) -> tuple[Outcome, int]:
        """What a response means, and its status. Its body is only for errors: one that does not end changes nothing."""
        start = bytearray()
        async with response:
            try:
                while len(start) < _BODY_MAX_BYTES and (chunk := await response.content.read(_BODY_MAX_BYTES)):
                    start += chunk
            except (aiohttp.ClientError, OSError):
                response.close()
            if not response.content.at_eof():
                # The rest may be endless.
                response.close()
        status, retry_after = response.status, response.headers.get("Retry-After")
        self._watch(status, response.url.host or "")
        return outcome_of(status, retry_after, bytes(start), unix_s=time.time()), status

    async def _post(self, url: URL, body: bytes, headers: dict[str, str]) -> aiohttp.ClientResponse:
        for _ in range(_CONNECTIONS_MAX - 1):
            try:
                return await self._session.post(url, data=body, headers=headers, allow_redirects=False)
            except _StrayAnswerError:
                logger.info("a push service answered without a request", extra={"host": url.host})
        return await self._session.post(url, data=body, headers=headers, allow_redirects=False)

    def _watch(self, status: int, host: str) -> None:
        """Log once when push services accept no token of this process."""
        self._refusals = self._refusals + 1 if status in UNAUTHORIZED else 0
        if self._refusals == _REFUSALS_MAX:
            logger.error(
                "push services refuse every push: check the clock of this machine, and that vapid_key_file has the key"
                " and contact the address that browsers and push services know",
                extra={"host": host, "status": status, "unix_s": int(time.time())},
            )


def _session(options: WebPush, tls: ssl.SSLContext, **connections: Any) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=options.connections,
            resolver=None if options.allow_private else PublicResolver(),
            ttl_dns_cache=_DNS_CACHE_S,
            ssl=tls,
            **connections,
        ),
        timeout=aiohttp.ClientTimeout(total=options.timeout_s),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": "tidings", "Content-Type": "application/octet-stream"},
        auto_decompress=False,
        trust_env=False,
        request_class=_Request,
    )
