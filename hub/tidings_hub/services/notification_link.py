"""Requests of a node to the notification service over HTTP, and whether the service answers.

Each request has one deadline for everything: the wait, the connection and the response. While the service does not
answer, requests fail at once, except for one at a time that tries it. So a service that hangs holds few greenlets.
"""

from __future__ import annotations

import logging
import secrets
import ssl
import threading
from collections import deque
from typing import Final, NoReturn
from urllib.parse import urlsplit

from tidings.codes import Fault
from tidings.errors import BadRequest, Internal, TidingsError, TimedOut, Unauthorized, Unavailable, from_wire
from tidings.http_client.connection import HttpAddress, HttpConnection
from tidings.http_client.deadline import Deadline
from tidings.http_client.response import AmbiguousResponse
from tidings_hub import runtime
from tidings_hub.config.installation import INSTALLATION_HEADER
from tidings_hub.config.notifications import REQUEST_HEADER, Notifications
from tidings_hub.core.health.circuit_breaker import CircuitBreaker
from tidings_hub.core.strict_json import loads
from tidings_hub.log import log_rate_limited
from tidings_hub.metrics import Metrics

logger = logging.getLogger("tidings.notifications")

# Between a request that failed and the next one that tries the service.
_PAUSE_S: Final = 1.0
# On top of the time limit, until a try without a result is repeated.
_GRACE_S: Final = 1.0
# The service keeps idle connections for two minutes.
_IDLE_MAX_S: Final = 30.0
_IDLE_MAX: Final = 8
# Of a response. Pages are shorter, because requests name a limit; the results of 1,000 marks or notifications fit.
RESPONSE_MAX_BYTES: Final = 1_048_576
READY: Final = "ok"
_NO_ANSWER: Final = "no answer"
_OK: Final = 200
_TRY_LATER: Final = "the notification service cannot answer now; try again later"


class NotificationLink:
    """The connections of a node to the service at `url`. `key`: what the service accepts.

    `installation`: that of this node (`installation_of`). `last_error`: why the last request failed, empty if it
    succeeded.
    """

    def __init__(self, url: str, key: str, options: Notifications, metrics: Metrics, *, installation: str = "") -> None:
        parts = urlsplit(url)
        is_secure = parts.scheme == "https"
        self.url = url
        self.key = key
        self.last_error = ""
        self.metrics = metrics
        self.timeout_s = options.request_timeout_s
        self._headers = {INSTALLATION_HEADER: installation} if installation else {}
        self._address = HttpAddress(
            parts.hostname or "",
            parts.port or (443 if is_secure else 80),
            ssl.create_default_context() if is_secure else None,
        )
        self._breaker = CircuitBreaker(pause_s=_PAUSE_S, probe_s=self.timeout_s + _GRACE_S)
        self._idle: deque[HttpConnection] = deque()

    @property
    def is_closed(self) -> bool:
        """Whether every request is tried. False: the service does not answer."""
        return self._breaker.is_closed

    def admit(self) -> None:
        """Return if a request may begin now.

        Raises:
            Unavailable: the last ones failed, and another one is trying.
        """
        if not self._breaker.admits(runtime.now_s()):
            self.metrics.notification_requests_refused += 1
            raise Unavailable(_TRY_LATER)

    def exchange(self, method: str, target: str, body: bytes | None, deadline: Deadline) -> tuple[int, bytes]:
        """Send a request that `admit` let begin, and return status and body of the response.

        Raises:
            TimedOut: no response in time; it may have been handled. Unavailable: no connection.
        """
        metrics, started_s = self.metrics, runtime.now_s()
        attempt = _Attempt()
        metrics.notification_requests_active += 1
        try:
            # `deadline` does not limit the look-up of the name; `call_with_timeout` does.
            response: tuple[int, bytes] = runtime.call_with_timeout(
                max(0.001, deadline.left_s()), self._exchange, method, target, body, deadline, attempt
            )
        except (runtime.CallTimeout, OSError) as error:
            self._fail(error, started_s, was_sent=attempt.was_sent and body is not None)
        finally:
            metrics.notification_requests_active -= 1
            metrics.notification_request_s.observe(runtime.now_s() - started_s)
        self._breaker.succeed(runtime.now_s())
        if self.last_error:
            logger.warning("the notification service at %s answers again", self.url)
            self.last_error = ""
        return response

    def probe(self) -> str:
        """Whether the service is ready: `READY`, or why it is not, in words for everyone. The log has the cause."""
        if not self._breaker.admits(runtime.now_s()):
            return _NO_ANSWER
        try:
            status, content = self.exchange("GET", "/readyz", None, Deadline.after(self.timeout_s))
        except TidingsError:
            return _NO_ANSWER
        try:
            value = loads(content)
        except BadRequest:
            value = None
        match value:
            case {"ready": True} if status == _OK:
                return READY
            case {"ready": False}:
                shown = content[:500].decode(errors="replace")
                log_rate_limited(
                    *(logger, logging.WARNING, "notification service not ready"),
                    *("the notification service at %s is not ready: %s", self.url, shown),
                )
                return "not ready"
        self.log_foreign(status)
        return "not a notification service"

    def log_foreign(self, status: int) -> None:
        """Log that something else answers at this URL."""
        log_rate_limited(
            logger,
            logging.ERROR,
            "foreign notification service",
            "what answers at %s is not a notification service (status %d); correct url in [notifications]",
            self.url,
            status,
        )

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().close()

    def _fail(self, error: Exception, started_s: float, *, was_sent: bool) -> NoReturn:
        is_late = isinstance(error, runtime.CallTimeout | TimeoutError)
        reason = f"no response within {self.timeout_s:g} s" if is_late else f"{type(error).__name__}: {error}"
        self._breaker.fail(started_s, runtime.now_s())
        self.metrics.count(self.metrics.notification_requests, "timeout" if is_late else "failed")
        self.last_error = reason
        log_rate_limited(
            logger,
            logging.WARNING,
            "no notification service",
            "the notification service at %s does not answer (%s); start `tidings notifications`, or correct url in"
            " [notifications]",
            self.url,
            reason,
        )
        if was_sent:
            raise TimedOut("the notification service did not answer in time; try again with the same id") from error
        raise Unavailable(_TRY_LATER) from error

    def _exchange(
        self, method: str, target: str, body: bytes | None, deadline: Deadline, attempt: _Attempt
    ) -> tuple[int, bytes]:
        headers = {"Authorization": f"Bearer {self.key}", "Accept": "application/json", "User-Agent": "tidings"}
        headers |= {**self._headers, REQUEST_HEADER: secrets.token_hex(8)}
        if body is not None:
            headers["Content-Type"] = "application/json"
        while True:
            idle = self._pop_idle()
            connection = idle or HttpConnection(self._address)
            try:
                response = connection.exchange(
                    target,
                    body,
                    headers,
                    deadline=deadline,
                    response_max_bytes=RESPONSE_MAX_BYTES,
                    method=method,
                    echo_header=REQUEST_HEADER,
                )
            except OSError as error:
                attempt.was_sent = attempt.was_sent or connection.request_started
                # The service may have closed the idle connection, or sent what belongs to another request: send it
                # again on a new one. Every request of a node has the same effect when it is handled twice.
                is_other = isinstance(error, AmbiguousResponse) or not connection.response_started
                if idle is None or isinstance(error, TimeoutError) or not is_other:
                    raise
            except BaseException:
                attempt.was_sent = attempt.was_sent or connection.request_started
                raise
            else:
                self._release(connection)
                return response

    def _pop_idle(self) -> HttpConnection | None:
        """An idle connection. One on which anything arrived is closed: it would be the answer to the next request."""
        while self._idle:
            connection = self._idle.pop()
            if runtime.now_s() - connection.idle_since_s < _IDLE_MAX_S and connection.is_reusable():
                return connection
            connection.close()
        return None

    def _release(self, connection: HttpConnection) -> None:
        connection.idle_since_s = runtime.now_s()
        if connection.is_open and len(self._idle) < _IDLE_MAX:
            self._idle.append(connection)
        else:
            connection.close()


class _Attempt:
    """Whether a byte of the request may have been sent."""

    __slots__ = ("was_sent",)

    def __init__(self) -> None:
        self.was_sent = False


class RequestLane:
    """Requests of one kind, at most `size` at a time: those of clients do not wait for those of backends."""

    def __init__(self, link: NotificationLink, size: int) -> None:
        self._link = link
        self._free = threading.Semaphore(size)

    def request(self, method: str, target: str, fields: bytes | None = None) -> tuple[str, dict[str, object]]:
        """Send a request, a GET without `fields`. Returns the object in the response, as JSON and decoded.

        Raises:
            Unavailable, TimedOut: the service does not answer. TidingsError: its answer is an error.
        """
        link = self._link
        deadline, was_closed = Deadline.after(link.timeout_s), link.is_closed
        link.admit()
        if not self._free.acquire(timeout=link.timeout_s):
            link.metrics.notification_requests_refused += 1
            raise Unavailable("too many requests to the notification service are in progress (requests_max)")
        try:
            if was_closed and not link.is_closed:
                # It waited for others, and they failed.
                link.admit()
            status, content = link.exchange(method, target, fields, deadline)
        finally:
            self._free.release()
        return self._read(status, content)

    def _read(self, status: int, content: bytes) -> tuple[str, dict[str, object]]:
        metrics = self._link.metrics
        try:
            value = loads(content)
        except BadRequest as error:
            value = error
        match value:
            case {"error": {"code": str(code), "message": str(message)}} if status != _OK:
                metrics.count(metrics.notification_requests, from_wire(code, message).code.name)
                raise self._error(from_wire(code, message))
            case dict() if status == _OK:
                metrics.count(metrics.notification_requests, "ok")
                return content.decode(), value
        metrics.count(metrics.notification_requests, "bad_answer")
        self._link.log_foreign(status)
        raise Unavailable(_TRY_LATER)

    def _error(self, error: TidingsError) -> TidingsError:
        """The error for the client or backend that sent the request. The log has what is for the operator only."""
        if isinstance(error, Unauthorized):
            log_rate_limited(
                logger,
                logging.ERROR,
                "key of the notification service",
                "the notification service at %s rejects this node: %s",
                *(self._link.url, error),
            )
            return Unavailable(_TRY_LATER)
        if error.code.fault is not Fault.OURS:
            return error
        log_rate_limited(
            logger, logging.WARNING, "notification service fails", "the notification service failed: %s", error
        )
        if isinstance(error, TimedOut):
            return TimedOut("the notification service did not answer in time; try again with the same id")
        return (
            Internal("the notification service failed; its log has the cause")
            if isinstance(error, Internal)
            else (Unavailable(_TRY_LATER))
        )
