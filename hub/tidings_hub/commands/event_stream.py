"""A client of the hub's event stream (WHATWG HTML section 9.2). It uses only the standard library."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

from tidings.errors import BadConfig, NotFound, TidingsError, Unavailable, from_wire
from tidings.http_client.hosts import check_quoted_host
from tidings_hub.log import mask_secrets

# The hub sends a heartbeat every `ping_interval_s` (25 seconds).
SILENCE_S = 60.0
_LINE_MAX_BYTES = 16_777_216
# What a proxy responds while the server behind it is not there: Bad Gateway, Service Unavailable, Gateway Timeout.
_GATEWAY_ERRORS = (502, 503, 504)
_REDIRECTS = (301, 302, 303, 307, 308)
# So much of the text of another server is shown.
_TEXT_MAX = 200


@dataclass(frozen=True, slots=True)
class Event:
    """One event: its cursor, its name, and its data line as JSON text."""

    cursor: str
    name: str
    data: str


class EventStream:
    """One open event stream. Iteration ends when the hub closes it.

    Raises:
        BadConfig: `hub_url` is not an http URL.
        Unavailable: the hub cannot be reached.
        TidingsError: the hub rejected the request, with the error of its response.
    """

    def __init__(
        self,
        hub_url: str,
        channels: Sequence[str],
        *,
        token: str | None,
        since: str | None = None,
        timeout_s: float = 10,
    ) -> None:
        self._resources = ExitStack()
        connection = connect(hub_url, timeout_s=timeout_s)
        self._resources.callback(connection.close)
        path = urlsplit(hub_url).path.rstrip("/") + "/sse?" + urlencode({"channels": ",".join(channels)})
        # Refusals are statuses with JSON. With "text/event-stream" alone this would be an EventSource for the hub.
        headers = {"Accept": "text/event-stream, application/json"}
        if token:
            headers["Authorization"] = f"Bearer {_check_header('the token', token)}"
        if since:
            headers["Last-Event-ID"] = _check_header("the cursor", since)
        try:
            connection.request("GET", path, headers=headers)
            # http.client drops its reference to the socket after the head of a response without a length.
            self._socket = connection.sock
            self._response = self._resources.enter_context(connection.getresponse())
            self.set_silence_timeout(SILENCE_S)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            hint = "is `tidings serve` running, and is --url its address?"
            raise Unavailable(f"no event stream from {hub_url}: {error_text(error)}; {hint}") from error
        if self._response.status != http.client.OK:
            body = self._response.read(65_536)
            self.close()
            rejection = read_error(body)
            other = not_from_hub(self._response)
            raise BadConfig(other) if isinstance(rejection, NotFound) else rejection or Unavailable(other)
        if self._response.headers.get_content_type() != "text/event-stream":
            self.close()
            # A fault of the URL: another attempt would get the same page.
            raise BadConfig(not_from_hub(self._response))

    def __iter__(self) -> Iterator[Event]:
        """Yield events as they arrive.

        Raises:
            Unavailable: the connection broke, or no heartbeat arrived in time.
        """
        fields: dict[str, list[str]] = {}
        try:
            while line := self._response.readline(_LINE_MAX_BYTES):
                text = line.decode("utf-8", "replace").rstrip("\r\n")
                if text and not text.startswith(":"):
                    name, _, value = text.partition(":")
                    fields.setdefault(name, []).append(value.removeprefix(" "))
                elif not text:
                    if "data" in fields:
                        yield Event(
                            cursor=fields.get("id", [""])[-1],
                            name=fields.get("event", ["message"])[-1],
                            data="\n".join(fields["data"]),
                        )
                    fields = {}
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(f"the event stream broke: {error_text(error)}") from error

    def set_silence_timeout(self, seconds: float) -> None:
        """Treat the connection as broken after so many seconds without data."""
        self._socket.settimeout(seconds)

    def close(self) -> None:
        """Close the stream."""
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _check_header(what: str, value: str) -> str:
    """`value` without white space at its ends, as a file or a variable may have it.

    Raises:
        BadConfig: no header can contain it.
    """
    text = value.strip()
    if not text.isascii() or not text.isprintable():
        raise BadConfig(f"{what} contains line breaks, control or non-ASCII characters; copy it again")
    return text


def connect(hub_url: str, *, timeout_s: float) -> http.client.HTTPConnection:
    """A connection to the hub that is not open yet.

    Raises:
        BadConfig: `hub_url` is not an http URL.
    """
    try:
        parts = urlsplit(hub_url)
        host, port = parts.hostname, parts.port
        check_quoted_host(host)
    except ValueError:
        host = port = None
    is_printable = hub_url.isascii() and hub_url.isprintable() and " " not in hub_url
    if not host or not is_printable or parts.scheme not in ("http", "https") or parts.query or parts.fragment:
        raise BadConfig(f"{mask_secrets(hub_url)} is not the address of a hub, http(s)://host[:port][/path]")
    if parts.username or parts.password:
        raise BadConfig("the hub's URL must not contain a password; use TIDINGS_API_KEY, or --token")
    connection_class = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return connection_class(host, port, timeout=timeout_s)


def read_error(body: bytes) -> TidingsError | None:
    """The error in a response of the hub. None: it is not from a hub."""
    match read_json_object(body):
        case {"error": {"code": str(code), "message": str(message)}}:
            return from_wire(code, message)
    return None


def read_json_object(body: bytes) -> dict[str, Any] | None:
    """The JSON object in a response; None: it contains something else, so it is not from a hub."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def not_from_hub(response: http.client.HTTPResponse) -> str:
    """What a response that is not from a hub means, and what to do."""
    status, location = response.status, response.headers.get("Location")
    if status in _GATEWAY_ERRORS:
        return f"the proxy there returned {status}: it cannot reach the hub; is `tidings serve` running behind it?"
    if location and status in _REDIRECTS:
        return f"it redirects to {location[:_TEXT_MAX]!r} (status {status}); use the hub's address there"
    return f"a response with status {status} that is not from a hub; is that the hub's address?"


def error_text(error: Exception) -> str:
    """What went wrong in a request, in one line without control characters of the other side."""
    if type(error) is http.client.BadStatusLine:
        return f"the server there does not speak HTTP: {str(error).strip()[:_TEXT_MAX]!r}"
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
