"""Pusher's HTTP publishing API, for backends that use a Pusher library (docs/other-emitters.md)."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from http import HTTPStatus

from flask import Flask, Response, request

from tidings.errors import Forbidden, TidingsError, TooLarge, Unauthorized
from tidings.publishers.base import OWN_ID_S, OutgoingPublication
from tidings.wire.ids import new_id
from tidings_hub.config.ingress import PusherApp
from tidings_hub.core.compat.pusher import PusherCredentials, check_body, check_signature, read_batch, read_event
from tidings_hub.core.compat.requests import PublishRequest
from tidings_hub.log import log_rate_limited
from tidings_hub.services.api import NodeApi
from tidings_hub.web.body import read_body

log = logging.getLogger("tidings.web")

NAME = "pusher"
_EVENTS, _BATCH_EVENTS = "events", "batch_events"
# The statuses that Pusher's libraries handle. Every other error of the caller gets 400.
_STATUSES: dict[type[TidingsError], int] = {
    Unauthorized: HTTPStatus.UNAUTHORIZED,
    Forbidden: HTTPStatus.FORBIDDEN,
    TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
}


def pusher_paths(app_id: str) -> frozenset[str]:
    """The paths of the two addresses of an app."""
    return frozenset(f"/apps/{app_id}/{endpoint}" for endpoint in (_EVENTS, _BATCH_EVENTS))


class PusherApi:
    """The two addresses of one Pusher app. Each response is `{}`, or an error status with a line of text."""

    def __init__(self, hub: NodeApi, source: PusherApp) -> None:
        self._hub = hub
        self._credentials: PusherCredentials = source.credentials()
        self._channel_mapping = source.channel_mapping()

    def install(self, flask: Flask) -> None:
        """Add the two addresses to the Flask application."""
        for endpoint, view in ((_EVENTS, self.events), (_BATCH_EVENTS, self.batch_events)):
            flask.add_url_rule(
                f"/apps/<app_id>/{endpoint}",
                f"pusher_{endpoint}",
                view,
                methods=["POST"],
                provide_automatic_options=False,
            )

    def events(self, app_id: str) -> Response:
        """Publish one event in up to 100 channels."""
        return self._handle(app_id, _EVENTS)

    def batch_events(self, app_id: str) -> Response:
        """Publish several events, each in one channel."""
        return self._handle(app_id, _BATCH_EVENTS)

    def _handle(self, app_id: str, endpoint: str) -> Response:
        metrics = self._hub.metrics
        try:
            count = self._publish(self._parse_request(app_id, endpoint))
        except TidingsError as error:
            metrics.count(metrics.wires_refused, error.code.name)
            log_rate_limited(log, logging.WARNING, NAME, "request in Pusher's format rejected: %s", error)
            return _error_response(error)
        metrics.count(metrics.wires_published, NAME, count)
        return Response(b"{}", content_type="application/json")

    def _parse_request(self, app_id: str, endpoint: str) -> list[PublishRequest]:
        settings, query = self._hub.settings, request.args.to_dict()
        if any(len(values) > 1 for _, values in request.args.lists()):
            raise Unauthorized("a parameter of the query string appears twice; send each once")
        if app_id != self._credentials.app_id:
            raise Unauthorized("unknown app id; check it against [ingress.pusher]")
        check_signature(self._credentials, f"/apps/{app_id}/{endpoint}", query, now_s=time.time())
        body = self._body(settings.api_body_max_bytes)
        check_body(query, body)
        requests = self._read_events(body, endpoint)
        if len(requests) > settings.max_batch:
            self._hub.metrics.api_too_large += 1
            raise TooLarge(f"{len(requests)} events in one batch; max_batch allows {settings.max_batch}")
        # Check all channels before anything is published: one wrong channel rejects the whole request.
        access = settings.access()
        for channel in (channel for event in requests for channel in event.channels):
            access.rule(channel)
        return requests

    def _body(self, max_bytes: int) -> bytes:
        try:
            return read_body(request, max_bytes)
        except TooLarge:
            self._hub.metrics.api_too_large += 1
            raise

    def _read_events(self, body: bytes, endpoint: str) -> list[PublishRequest]:
        data_max_bytes = self._hub.settings.publication_max_bytes
        try:
            if endpoint == _EVENTS:
                return [read_event(body, self._channel_mapping, data_max_bytes=data_max_bytes)]
            return read_batch(body, self._channel_mapping, data_max_bytes=data_max_bytes)
        except TooLarge:
            self._hub.metrics.publications_too_large += 1
            raise

    def _publish(self, requests: Sequence[PublishRequest]) -> int:
        """Publish the events and return the number of publications.

        Raises:
            TidingsError: the broker did not store all of them.
        """
        at_ms, items = time.time_ns() // 1_000_000, []
        for event in requests:
            # Pusher's format has no id. This one only makes the retries of the broker safe.
            id_ = new_id(at_ms)
            body = event.body(id=id_, at_ms=at_ms)
            items += [OutgoingPublication(channel, body, id_, OWN_ID_S) for channel in event.channels]
        results = self._hub.publish(items)
        failed = [result for result in results if isinstance(result, TidingsError)]
        if failed:
            raise type(failed[0])(f"{len(failed)} of {len(items)} were not published: {failed[0]}")
        return len(items)


def _error_response(error: TidingsError) -> Response:
    status = next((status for kind, status in _STATUSES.items() if isinstance(error, kind)), HTTPStatus.BAD_REQUEST)
    if error.code.http_status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        status = error.code.http_status
    response = Response(f"{error}\n", status, content_type="text/plain; charset=utf-8")
    if isinstance(error, TooLarge):
        # The hub does not read the rest of the body, so the connection cannot be reused.
        response.headers["Connection"] = "close"
    return response
