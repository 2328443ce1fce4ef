"""Responses without WSGI and Flask: for requests to `/api/publish` and `/healthz` in their usual form.

A request with any other header, value or form takes the way through Flask, and so does one without a valid API key. The
responses have the same bytes on both ways: the code that parses bodies, publishes and describes errors is the same.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import islice
from typing import Final

from flask import Response

from tidings.errors import Internal, TidingsError
from tidings.receipts import Receipt
from tidings_hub.core.strict_json import loads
from tidings_hub.engine.protocols.http_request import RequestHead
from tidings_hub.engine.requests.direct_requests import DirectResponse
from tidings_hub.services.api import NodeApi
from tidings_hub.web.api import health_response
from tidings_hub.web.api_keys import ApiKeys
from tidings_hub.web.publishing import UnsentPublications, read_request
from tidings_hub.web.responses import add_headers, error_response, json_response, log

# Requests whose publications take one round trip to the broker.
_GROUP_MAX: Final = 64
_PUBLISH: Final = "/api/publish"
_HEALTHZ: Final = "/healthz"
# The headers that these addresses need, and those that neither Flask nor a view reads. With any other one, Flask
# decides. It also decides about an Origin header, which `--dev` checks.
_KNOWN_HEADERS: Final = frozenset({
    "accept", "accept-encoding", "accept-language", "authorization", "baggage", "cache-control", "connection",
    "content-length", "content-type", "forwarded", "host", "pragma", "sentry-trace", "traceparent", "tracestate",
    "user-agent", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto", "x-real-ip",
    "x-request-id",
})  # fmt: skip
_HOST: Final = re.compile(r"[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63}){0,9}(:[1-9][0-9]{0,4})?\Z", re.ASCII)
_ACCEPTS_JSON: Final = frozenset({None, "*/*", "application/json", "application/json, text/plain, */*"})
_JSON_TYPES: Final = frozenset({
    "application/json", "application/json; charset=utf-8", "application/json;charset=utf-8",
    "application/json; charset=UTF-8", "application/json;charset=UTF-8",
})  # fmt: skip


class DirectApi:
    """Implements `engine.requests.direct_requests.DirectApplication` for the HTTP API of one node."""

    def __init__(self, hub: NodeApi) -> None:
        self._hub = hub
        self._keys = ApiKeys(hub.settings, hub.metrics)
        # A bucket of a cluster that does not answer must not delay the publications of the others.
        self.group_max = 1 if "+cluster://" in hub.settings.broker else _GROUP_MAX

    def respond(self, head: RequestHead) -> DirectResponse | None:
        """Respond to a request that never waits, `GET /healthz`. None: it is another one."""
        if head.path != _HEALTHZ or head.method != "GET" or head.has_body or not _is_usual(head):
            return None
        return _render(health_response(self._hub))

    def accepts(self, head: RequestHead) -> bool:
        """Whether `respond_all` responds to the request, by its head: it publishes, and its API key is valid."""
        headers = head.headers
        settings = self._hub.settings
        if (
            head.path != _PUBLISH
            or head.method != "POST"
            or not 0 < (head.length or 0) <= settings.api_body_max_bytes
            or headers.get("content-type") not in _JSON_TYPES
            or not _is_usual(head)
        ):
            return False
        self._keys.update(settings)
        return self._keys.required and self._keys.accepts(headers.get("authorization", ""))

    def read(self, body: bytes) -> UnsentPublications | TidingsError:
        """Parse the body of a request that `accepts` has accepted. An error is its response."""
        try:
            return read_request(self._hub, loads(body))
        except TidingsError as error:
            return error
        except Exception as error:  # noqa: BLE001 - as for Flask: any error ends this request alone
            return _unexpected(error)

    def respond_all(self, requests: Sequence[UnsentPublications | TidingsError]) -> list[DirectResponse]:
        """Publish the contents of these requests in one round trip to the broker, in order. Waits for it."""
        publications = [
            publication
            for request in requests
            if isinstance(request, UnsentPublications)
            for publication in request.publications
        ]
        try:
            results = self._hub.publish(publications) if publications else []
        except Exception as error:  # noqa: BLE001 - as for Flask
            failure = error if isinstance(error, TidingsError) else _unexpected(error)
            return [
                self._error(failure if isinstance(request, UnsentPublications) else request) for request in requests
            ]
        responses, remaining = [], iter(results)
        for request in requests:
            if isinstance(request, UnsentPublications):
                responses.append(self._response(request, list(islice(remaining, len(request.publications)))))
            else:
                responses.append(self._error(request))
        return responses

    def _response(self, request: UnsentPublications, results: Sequence[Receipt | TidingsError]) -> DirectResponse:
        try:
            content = request.response(self._hub, results).model_dump_json().encode()
        except TidingsError as error:
            return self._error(error)
        except Exception as error:  # noqa: BLE001 - as for Flask
            return self._error(_unexpected(error))
        self._hub.metrics.count(self._hub.metrics.api_requests, "200")
        return DirectResponse(_success_head(len(content)), content)

    def _error(self, error: TidingsError) -> DirectResponse:
        response = error_response(error)
        self._hub.metrics.count(self._hub.metrics.api_requests, str(response.status_code))
        return _render(response)


def _unexpected(error: Exception) -> Internal:
    log.error("POST %s failed", _PUBLISH, exc_info=error)
    return Internal()


def _is_usual(head: RequestHead) -> bool:
    headers = head.headers
    return (
        head.version == "1.1"
        and not head.query
        and headers.keys() <= _KNOWN_HEADERS
        and headers.get("accept") in _ACCEPTS_JSON
        and _HOST.match(headers["host"]) is not None
    )


def _render(response: Response) -> DirectResponse:
    return DirectResponse(_head(response), response.get_data())


def _head(response: Response) -> bytes:
    """Status and headers of a response of the API, as eventlet's WSGI server writes them before the Date."""
    add_headers(response, _PUBLISH)
    lines = "".join([f"{name}: {value}\r\n" for name, value in response.headers])
    return f"HTTP/1.1 {response.status}\r\n{lines}".encode("latin-1")


@lru_cache(maxsize=256)
def _success_head(length: int) -> bytes:
    return _head(json_response(bytes(length)))
