"""Publishing over the hub's HTTP API, for backends that cannot reach its broker.

The standard library's client: an emitter brings no further dependency.
"""

from __future__ import annotations

import os
import re
import ssl
import time
from collections import deque
from collections.abc import Callable, Sequence
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from tidings.backoff import delay_s
from tidings.errors import BadConfig, Draining, Full, TidingsError, TimedOut, Unavailable
from tidings.publishers.base import OutgoingPublication, PublishResult
from tidings.publishers.http.connection import Deadline, HubAddress, HubConnection
from tidings.publishers.http.requests import (
    NODES_PATH,
    PAGE_MAX_BYTES,
    history_path,
    presence_path,
    read_history,
    read_nodes,
    read_presence,
)
from tidings.publishers.http.responses import read_named, read_object, read_results, split_requests
from tidings.publishers.threaded import ThreadedHubPublisher
from tidings.wire.control import Done, History, NodeRecord, Order, read_done
from tidings.wire.cursor import Cursor
from tidings.wire.presence import Presence
from tidings.wire.reports import Report, Sought, read_report

# The hub's own limit (its setting `max_batch`).
ITEMS_MAX = 100
REQUEST_MAX_BYTES = 1_048_576
RESPONSE_MAX_BYTES = 1_048_576
# Connections kept for the next publish; more may be open while more threads publish at once.
IDLE_MAX = 8
# Shorter than proxies and hubs keep an idle connection, so that a silently dropped one is rare.
IDLE_MAX_S = 15.0
_RETRY_BASE_S = 0.05
_RETRY_CAP_S = 1.0
_KEY = re.compile(r"[\x21-\x7e]{1,512}\Z")
_PORTS = {"http": 80, "https": 443}


class HttpPublisher:
    """A `Publisher` that posts to a hub at `http(s)://host[:port][/path]`.

    Connections are kept and shared between threads and greenlets: each publish takes a free
    one or opens one. Requests that got no answer are sent again until the timeout; the hub
    knows the ids and publishes each once. Environment proxies are not used, redirects not followed.

    `tls` is the context for https; the default one checks the certificate and the host's name.

    Raises:
        BadConfig: the URL or the key is not of the right form.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        tls: ssl.SSLContext | None = None,
        items_max: int = ITEMS_MAX,
        request_max_bytes: int = REQUEST_MAX_BYTES,
    ) -> None:
        self._address, self._base = _parsed(url, tls)
        self._path = f"{self._base}/api/publish"
        self._headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "tidings"}
        if api_key is not None:
            if not _KEY.match(api_key):
                raise BadConfig("the API key holds white space, control or non-ASCII characters; copy it again")
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._items_max = items_max
        self._request_max_bytes = request_max_bytes
        # deque's append and pop are atomic: no lock that a fork could leave held.
        self._idle: deque[HubConnection] = deque()
        self._pid = os.getpid()
        self.closed = False

    def publish(self, items: Sequence[OutgoingPublication], *, timeout_s: float) -> list[PublishResult]:
        """See `Publisher.publish`; more than `items_max` items take more than one round trip."""
        return self.publish_until(items, Deadline.after(timeout_s))

    def publish_until(self, items: Sequence[OutgoingPublication], deadline: Deadline) -> list[PublishResult]:
        """`publish` with the moment at which it must have returned."""
        answers: list[PublishResult] = []
        requests = split_requests(items, items_max=self._items_max, request_max_bytes=self._request_max_bytes)
        for count, body in requests:
            answers += self._publish_with_retries(body, count, deadline)
        return answers

    def send_command(self, command: Order, *, timeout_s: float) -> Done:
        """See `NodeQueries.send_command`."""
        path, body = command.request()
        return read_done(self.request_until(path, body, Deadline.after(timeout_s)))

    def report(self, sought: Sought, *, timeout_s: float) -> Report:
        """See `NodeQueries.report`."""
        return read_report(self.request_until(sought.path(), None, Deadline.after(timeout_s), read_named))

    def history(self, channel: str, *, since: Cursor | None, limit: int, timeout_s: float) -> History:
        """See `NodeQueries.history`."""
        return read_history(self.request_until(history_path(channel, since, limit), None, Deadline.after(timeout_s)))

    def nodes(self, *, timeout_s: float) -> list[NodeRecord]:
        """See `NodeQueries.nodes`."""
        return read_nodes(self.request_until(NODES_PATH, None, Deadline.after(timeout_s)))

    def presence(self, channel: str, *, limit: int, timeout_s: float) -> Presence:
        """See `NodeQueries.presence`."""
        return read_presence(self.request_until(presence_path(channel, limit), None, Deadline.after(timeout_s)))

    def request_until(
        self,
        path: str,
        body: bytes | None,
        deadline: Deadline,
        read: Callable[[int, bytes], dict[str, Any]] = read_object,
    ) -> dict[str, Any]:
        """The object that an address answers; a GET without a body. The request is not repeated.

        Raises:
            TidingsError: there was no answer in time, or a refusal.
        """
        while True:
            if self.closed:
                raise Unavailable("this publisher was closed; make a new one")
            idle = self._acquire()
            link = idle or HubConnection(self._address)
            try:
                status, said = self._exchange(link, self._base + path, body, deadline, PAGE_MAX_BYTES)
            except (OSError, HTTPException, TidingsError) as error:
                # As with a publish: the hub may have closed an idle connection.
                if idle is None or isinstance(error, TimeoutError | TidingsError):
                    raise self._failure(error, asked=link.request_started) from error
            else:
                return read(status, said)

    def close(self) -> None:
        """See `Publisher.close`."""
        self.closed = True
        while self._idle:
            self._idle.pop().close()

    def _publish_with_retries(self, body: bytes, count: int, deadline: Deadline) -> list[PublishResult]:
        """The answers to one request, sent again while the hub takes none of it and time is left.

        Once one item was taken nothing is sent again: the others would come after it, out of order.
        """
        attempt = 0
        uncertain: PublishResult | None = None
        while True:
            answers = self._attempt(body, count, deadline)
            if self.closed or not all(_passing(answer) for answer in answers):
                return answers
            uncertain = next((answer for answer in answers if isinstance(answer, TimedOut)), uncertain)
            pause_s = delay_s(attempt, base_s=_RETRY_BASE_S, cap_s=_RETRY_CAP_S)
            if pause_s >= deadline.left_s():
                # An earlier attempt may have arrived: "not taken" would be a guess.
                return answers if uncertain is None else [uncertain] * count
            time.sleep(pause_s)
            attempt += 1

    def _attempt(self, body: bytes, count: int, deadline: Deadline) -> list[PublishResult]:
        """One attempt; never raises for what a hub or a network can do."""
        if self.closed:
            return [Unavailable("this publisher was closed; make a new one")] * count
        if deadline.left_s() <= 0:
            return [Unavailable("not sent: the time ran out before; raise timeout_s or send less at once")] * count
        asked = False
        while True:
            idle = self._acquire()
            link = idle or HubConnection(self._address)
            try:
                return self._over(link, body, count, deadline)
            except (OSError, HTTPException, TidingsError) as error:
                asked = asked or link.request_started
                # The hub may have closed an idle connection, which is its right: ask again on another.
                if idle is None or isinstance(error, TimeoutError | TidingsError):
                    return [self._failure(error, asked=asked)] * count

    def _over(self, link: HubConnection, body: bytes, count: int, deadline: Deadline) -> list[PublishResult]:
        return read_results(*self._exchange(link, self._path, body, deadline, RESPONSE_MAX_BYTES), count)

    def _exchange(
        self, link: HubConnection, path: str, body: bytes | None, deadline: Deadline, answer_max_bytes: int
    ) -> tuple[int, bytes]:
        link.deadline = deadline
        try:
            status, said = link.exchange(path, body, self._headers, response_max_bytes=answer_max_bytes)
        except BaseException:
            link.close()
            raise
        self._release(link)
        return status, said

    def _acquire(self) -> HubConnection | None:
        """An idle connection that is young enough, the last used first."""
        if self._pid != os.getpid():
            # The parent goes on using its connections. uWSGI forks without the hooks that Python knows.
            self._idle, self._pid = deque(), os.getpid()
        while self._idle:
            try:
                link = self._idle.pop()
            except IndexError:
                # Another thread took the last one in between.
                return None
            if time.monotonic() - link.idle_since_s < IDLE_MAX_S:
                return link
            link.close()
        return None

    def _release(self, link: HubConnection) -> None:
        link.idle_since_s = time.monotonic()
        if self.closed or len(self._idle) >= IDLE_MAX or not link.is_open:
            link.close()
        else:
            self._idle.append(link)

    def _failure(self, error: Exception, *, asked: bool) -> TidingsError:
        if isinstance(error, TidingsError) and not isinstance(error, TimedOut):
            return error
        place = f"{self._address.host}:{self._address.port}"
        if asked:
            return TimedOut(f"no answer from the hub at {place}; publish again with the same id, or raise timeout_s")
        if isinstance(error, ssl.SSLCertVerificationError):
            return BadConfig(f"the certificate of {place} does not hold: {error.verify_message}")
        reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        return Unavailable(f"no hub at {place} ({reason}); is it running, and is the URL right?")


class AsyncHttpPublisher(ThreadedHubPublisher):
    """An `AsyncPublisher` around `HttpPublisher`.

    An HTTP client over asyncio's streams would be a second implementation of everything above.
    """

    def __init__(self, url: str, *, api_key: str | None = None, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(HttpPublisher(url, api_key=api_key, tls=tls), name="http")


def _passing(answer: PublishResult) -> bool:
    """Whether the same request may succeed a moment later."""
    return isinstance(answer, Unavailable | Draining | Full)


def _parsed(url: str, tls: ssl.SSLContext | None) -> tuple[HubAddress, str]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BadConfig("the hub's URL is malformed; it is http(s)://host[:port][/path]") from error
    if parts.scheme not in _PORTS or not parts.hostname or parts.query or parts.fragment:
        raise BadConfig("the hub's URL is http(s)://host[:port][/path], without ? and #")
    if parts.username is not None or parts.password is not None:
        raise BadConfig("the hub's URL must not hold a password; give api_key instead")
    if not re.fullmatch(r"[\x21-\x7e]*", url):
        raise BadConfig("the hub's URL holds white space or non-ASCII characters")
    context = (tls or ssl.create_default_context()) if parts.scheme == "https" else None
    return HubAddress(parts.hostname, port or _PORTS[parts.scheme], context), parts.path.rstrip("/")
