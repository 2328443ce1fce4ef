"""Publishing over the hub's HTTP API, for backends that cannot reach its broker. Needs no package."""

from __future__ import annotations

import os
import re
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic

from tidings.backoff import delay_s
from tidings.errors import BadConfig, Draining, Full, Internal, TidingsError, TimedOut, Unavailable
from tidings.http_client.connection import HttpConnection
from tidings.http_client.deadline import Deadline
from tidings.http_client.response import AmbiguousResponse, BadHttpResponse, ResponseTooLarge
from tidings.publishers.base import CLOSED, NotifyResult, OutgoingNotification, OutgoingPublication, PublishResult
from tidings.publishers.http.hub_url import parse_hub_url
from tidings.publishers.http.requests import (
    NODES_PATH,
    PAGE_MAX_BYTES,
    history_path,
    presence_path,
    read_history,
    read_nodes,
    read_presence,
)
from tidings.publishers.http.responses import (
    check_proof,
    encode_item,
    encode_notification,
    read_named,
    read_notify_results,
    read_object,
    read_results,
    split_requests,
)
from tidings.publishers.retry_state import Proof
from tidings.publishers.threaded import ThreadedHubPublisher
from tidings.wire.control import Command, CommandResult, History, NodeRecord, read_command_result
from tidings.wire.cursor import Cursor
from tidings.wire.presence import Presence
from tidings.wire.reports import Report, ReportQuery, read_report

# The hub's own limit (its setting `max_batch`).
ITEMS_MAX = 100
REQUEST_MAX_BYTES = 1_048_576
RESPONSE_MAX_BYTES = 1_048_576
# Idle connections that are kept. More may be open while more threads publish at the same time.
IDLE_MAX = 8
# Proxies and hubs keep idle connections longer, so it is rare that one was closed without notice.
IDLE_MAX_S = 15.0
_RETRY_BASE_S = 0.05
_RETRY_CAP_S = 1.0
_API_KEY = re.compile(r"[\x21-\x7e]{1,512}\Z")


@dataclass(frozen=True, slots=True)
class _Route(Generic[Proof]):
    """A path that takes an array of items, and how its responses are read: see `read_results`."""

    path: str
    read: Callable[[int, bytes, Sequence[str]], list[Proof | TidingsError]]


class HttpPublisher:
    """A `HubPublisher` that posts to a hub at `http(s)://host[:port][/path]`.

    Threads and greenlets share its connections: each publish takes an idle one or opens one. Commands and queries open
    one. A publish without a response is retried until the timeout; the hub publishes each id once. Proxies of the
    environment are not used, redirects are not followed. `tls`: the context for https. The default checks the
    certificate and the host's name.

    Raises:
        BadConfig: an invalid URL or API key.
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
        self._address, self._base = parse_hub_url(url, tls)
        self._publish_route = _Route(f"{self._base}/api/publish", read_results)
        self._notify_route = _Route(f"{self._base}/api/notifications", read_notify_results)
        self._headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "tidings"}
        if api_key is not None:
            if not _API_KEY.match(api_key):
                raise BadConfig("the API key contains white space, control or non-ASCII characters; copy it again")
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._items_max = items_max
        self._request_max_bytes = request_max_bytes
        # append and pop of a deque are atomic, so there is no lock that a fork could copy while held.
        self._idle: deque[HttpConnection] = deque()
        self._pid = os.getpid()
        self.closed = False

    def publish(self, items: Sequence[OutgoingPublication], *, timeout_s: float) -> list[PublishResult]:
        """See `Publisher.publish`; more than `items_max` items take more than one round trip."""
        parts = zip([item.id for item in items], map(encode_item, items), strict=True)
        return self._send(self._publish_route, parts, Deadline.after(timeout_s))

    def notify(self, items: Sequence[OutgoingNotification], *, timeout_s: float) -> list[NotifyResult]:
        """See `Notifier.notify`. The hub answers when the notification service has stored them."""
        parts = zip([item.id for item in items], map(encode_notification, items), strict=True)
        return self._send(self._notify_route, parts, Deadline.after(timeout_s))

    def _send(
        self, route: _Route[Proof], parts: Iterable[tuple[str, bytes]], deadline: Deadline
    ) -> list[Proof | TidingsError]:
        """The results of items. `parts`: the id of each, and itself as JSON."""
        results: list[Proof | TidingsError] = []
        requests = split_requests(parts, items_max=self._items_max, request_max_bytes=self._request_max_bytes)
        for ids, body in requests:
            results += self._send_with_retries(route, body, ids, deadline)
        return results

    def send_command(self, command: Command, *, timeout_s: float) -> CommandResult:
        """See `NodeQueries.send_command`."""
        path, body = command.to_http()
        return read_command_result(self.request_until(path, body, Deadline.after(timeout_s)))

    def report(self, query: ReportQuery, *, timeout_s: float) -> Report:
        """See `NodeQueries.report`."""
        return read_report(self.request_until(query.path(), None, Deadline.after(timeout_s), read_named))

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
        """Send one request on a new connection and return the object in the response. A GET if `body` is None.

        It is not retried.

        Raises:
            TidingsError: an error response, or none before the deadline.
        """
        if self.closed:
            raise Unavailable(CLOSED)
        # No id in the response proves that it belongs to this request. On a connection that was used before, it could
        # be a late one to an earlier request: "revoked" about another user.
        connection = HttpConnection(self._address)
        try:
            status, content = connection.exchange(
                self._base + path, body, self._headers, deadline=deadline, response_max_bytes=PAGE_MAX_BYTES
            )
        except (OSError, TidingsError) as error:
            raise self._failure(error, request_started=connection.request_started) from error
        self._release(connection)
        return read(status, content)

    def close(self) -> None:
        """See `Publisher.close`."""
        self.closed = True
        while self._idle:
            self._idle.pop().close()

    def _send_with_retries(
        self, route: _Route[Proof], body: bytes, ids: Sequence[str], deadline: Deadline
    ) -> list[Proof | TidingsError]:
        """The results of one request. It is retried while the hub accepts no item of it and time is left.

        Once an item was accepted there is no retry: the other items would be published after it, out of order.
        """
        attempt = 0
        timed_out: TimedOut | None = None
        while True:
            started_s = time.monotonic()
            results = self._attempt(route, body, ids, deadline)
            took_s = time.monotonic() - started_s
            if self.closed or not all(_is_transient(result) for result in results):
                return results
            timed_out = next((result for result in results if isinstance(result, TimedOut)), timed_out)
            pause_s = delay_s(attempt, base_s=_RETRY_BASE_S, cap_s=_RETRY_CAP_S)
            # The next attempt may take as long. Interrupted at the deadline, it would turn an `Unavailable` into a
            # `TimedOut`, after which the caller does not know whether the publication was accepted.
            if pause_s + took_s >= deadline.left_s():
                # An earlier attempt may have arrived, so `Unavailable` might be wrong.
                return results if timed_out is None else [timed_out] * len(ids)
            time.sleep(pause_s)
            attempt += 1

    def _attempt(
        self, route: _Route[Proof], body: bytes, ids: Sequence[str], deadline: Deadline
    ) -> list[Proof | TidingsError]:
        """One attempt. Failures of the hub or the network are returned, not raised."""
        if self.closed:
            return [Unavailable(CLOSED)] * len(ids)
        if deadline.left_s() <= 0:
            return [Unavailable("not sent: no time left; raise timeout_s or publish fewer items at a time")] * len(ids)
        request_started = is_doubted = False
        while True:
            idle = None if is_doubted else self._acquire()
            connection = idle or HttpConnection(self._address)
            try:
                return self._send_over(connection, route, body, ids, deadline)
            except (OSError, TidingsError) as error:
                request_started = request_started or connection.request_started
                is_doubted = isinstance(error, AmbiguousResponse)
                # The hub closed the idle connection, or a late response was on it. Ids are published once: try again.
                if idle is None or not (is_doubted or _was_closed_while_idle(connection, error)):
                    return [self._failure(error, request_started=request_started)] * len(ids)

    def _send_over(
        self, connection: HttpConnection, route: _Route[Proof], body: bytes, ids: Sequence[str], deadline: Deadline
    ) -> list[Proof | TidingsError]:
        is_reused = connection.is_open
        status, content = connection.exchange(
            route.path, body, self._headers, deadline=deadline, response_max_bytes=RESPONSE_MAX_BYTES
        )
        try:
            results = route.read(status, content, ids)
            if is_reused:
                check_proof(results)
        except BadHttpResponse:
            connection.close()
            raise
        self._release(connection)
        return results

    def _acquire(self) -> HttpConnection | None:
        """The most recently used idle connection that can be used again; None: there is none."""
        if self._pid != os.getpid():
            # Forked: the parent still uses its connections. uWSGI forks without Python's fork hooks.
            self._idle, self._pid = deque(), os.getpid()
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:
                # Another thread took the last one in between.
                return None
            if time.monotonic() - connection.idle_since_s < IDLE_MAX_S and connection.is_reusable():
                return connection
            connection.close()
        return None

    def _release(self, connection: HttpConnection) -> None:
        connection.idle_since_s = time.monotonic()
        if self.closed or len(self._idle) >= IDLE_MAX or not connection.is_open:
            connection.close()
        else:
            self._idle.append(connection)

    def _failure(self, error: Exception, *, request_started: bool) -> TidingsError:
        if isinstance(error, TidingsError) and not isinstance(error, TimedOut):
            return error
        if isinstance(error, ResponseTooLarge):
            return Internal(f"{error}; is this the URL of a tidings hub?")
        location = f"{self._address.host}:{self._address.port}"
        if request_started:
            return TimedOut(
                f"no response from the hub at {location}; publish again with the same id, or raise timeout_s"
            )
        if isinstance(error, ssl.SSLCertVerificationError):
            return BadConfig(f"the certificate of {location} is not valid: {error.verify_message}")
        reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        return Unavailable(f"no hub at {location} ({reason}); is it running, and is the URL right?")


class AsyncHttpPublisher(ThreadedHubPublisher):
    """An `AsyncPublisher` around `HttpPublisher`.

    It uses threads: a client on asyncio's streams would be a second implementation of everything above.
    """

    def __init__(self, url: str, *, api_key: str | None = None, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(HttpPublisher(url, api_key=api_key, tls=tls), name="http")


def _was_closed_while_idle(connection: HttpConnection, error: Exception) -> bool:
    """Whether the server closed the connection before it processed the request."""
    return not (isinstance(error, TimeoutError | TidingsError) or connection.response_started)


def _is_transient(result: object) -> bool:
    """Whether the same request may succeed a moment later."""
    return isinstance(result, Unavailable | Draining | Full)
