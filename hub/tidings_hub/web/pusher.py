"""Pusher's HTTP publish API: the addresses that backends with a Pusher library post to (docs/other-emitters.md)."""

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
# What Pusher's libraries know; every other mistake of the caller is 400 to them.
_STATUSES: dict[type[TidingsError], int] = {
    Unauthorized: HTTPStatus.UNAUTHORIZED,
    Forbidden: HTTPStatus.FORBIDDEN,
    TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
}


class PusherApi:
    """The two addresses of one app. Each answer is `{}`, or a status and a line of text."""

    def __init__(self, hub: NodeApi, source: PusherApp) -> None:
        self._hub = hub
        self._app: PusherCredentials = source.app()
        self._renames = source.renames()

    def install(self, flask: Flask) -> None:
        """Answer at these addresses."""
        for place, view in (("events", self.events), ("batch_events", self.batch_events)):
            flask.add_url_rule(
                f"/apps/<app_id>/{place}", f"pusher_{place}", view, methods=["POST"], provide_automatic_options=False
            )

    def events(self, app_id: str) -> Response:
        """One event in up to a hundred channels."""
        return self._answer(app_id, "events")

    def batch_events(self, app_id: str) -> Response:
        """Several events, each in its channel."""
        return self._answer(app_id, "batch_events")

    def _answer(self, app_id: str, place: str) -> Response:
        metrics = self._hub.metrics
        try:
            count = self._publish(self._asked(app_id, place))
        except TidingsError as error:
            metrics.count(metrics.wires_refused, error.code.name)
            log_rate_limited(log, logging.WARNING, NAME, "a request in Pusher's format was refused: %s", error)
            return _refusal(error)
        metrics.count(metrics.wires_published, NAME, count)
        return Response(b"{}", content_type="application/json")

    def _asked(self, app_id: str, place: str) -> list[PublishRequest]:
        settings, query = self._hub.settings, request.args.to_dict()
        if any(len(values) > 1 for _, values in request.args.lists()):
            raise Unauthorized("a parameter is given twice")
        if app_id != self._app.app_id:
            raise Unauthorized("no such app here: check the app id")
        check_signature(self._app, f"/apps/{app_id}/{place}", query, now_s=time.time())
        body = self._body(settings.api_body_max_bytes)
        check_body(query, body)
        asked = self._read(body, place)
        if len(asked) > settings.max_batch:
            self._hub.metrics.api_too_large += 1
            raise TooLarge(f"{len(asked)} events in one batch; max_batch allows {settings.max_batch}")
        # Before anything is published: with a wrong channel among them, none of them is.
        access = settings.access()
        for channel in (channel for each in asked for channel in each.channels):
            access.rule(channel)
        return asked

    def _body(self, max_bytes: int) -> bytes:
        try:
            return read_body(request, max_bytes)
        except TooLarge:
            self._hub.metrics.api_too_large += 1
            raise

    def _read(self, body: bytes, place: str) -> list[PublishRequest]:
        data_max_bytes = self._hub.settings.publication_max_bytes
        try:
            if place == "events":
                return [read_event(body, self._renames, data_max_bytes=data_max_bytes)]
            return read_batch(body, self._renames, data_max_bytes=data_max_bytes)
        except TooLarge:
            self._hub.metrics.publications_too_large += 1
            raise

    def _publish(self, asked: Sequence[PublishRequest]) -> int:
        """How many publications it made.

        Raises:
            TidingsError: the broker did not take all of them.
        """
        at_ms, items = time.time_ns() // 1_000_000, []
        for each in asked:
            # The format has no id: this one serves only the broker's own retries.
            id_ = new_id(at_ms)
            body = each.body(id=id_, at_ms=at_ms)
            items += [OutgoingPublication(channel, body, id_, OWN_ID_S) for channel in each.channels]
        results = self._hub.publish(items)
        failed = [result for result in results if isinstance(result, TidingsError)]
        if failed:
            raise type(failed[0])(f"{len(failed)} of {len(items)} were not published: {failed[0]}")
        return len(items)


def _refusal(error: TidingsError) -> Response:
    status = next((status for kind, status in _STATUSES.items() if isinstance(error, kind)), HTTPStatus.BAD_REQUEST)
    if error.code.http_status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        status = error.code.http_status
    answer = Response(f"{error}\n", status, content_type="text/plain; charset=utf-8")
    if isinstance(error, TooLarge):
        # What is left of the body is not worth reading.
        answer.headers["Connection"] = "close"
    return answer
