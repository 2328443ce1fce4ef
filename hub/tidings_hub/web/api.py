"""The HTTP API: one method per address; `routes.py` says which address."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from http import HTTPStatus

from flask import Response, request

from tidings.errors import BadRequest, TooLarge
from tidings.wire import control
from tidings.wire.channels import check_channel, check_id
from tidings.wire.control import Command
from tidings.wire.publication import Publication
from tidings.wire.reports import ReportQuery
from tidings_hub.metrics import render
from tidings_hub.services.api import NodeApi
from tidings_hub.web import routes
from tidings_hub.web.body import json_body
from tidings_hub.web.models import (
    REVOCATIONS,
    ChannelAnswer,
    ChannelOfUser,
    ChannelsAnswer,
    ConnectionAnswer,
    ConnectionsAnswer,
    DisconnectedAnswer,
    HealthAnswer,
    NodeAnswer,
    NodesAnswer,
    ReadyAnswer,
    ReceiptAnswer,
    RevokedAnswer,
    RevokeTokenFor,
    RevokeUserFor,
    SubscribedAnswer,
    TransportsAnswer,
)
from tidings_hub.web.openapi import document
from tidings_hub.web.pagination import page
from tidings_hub.web.prefer_header import prefers
from tidings_hub.web.publishing import publish
from tidings_hub.web.reports import report_answer
from tidings_hub.web.responses import json_answer
from tidings_hub.web.schemas import check_user
from tidings_hub.web.validate import validated

# Prometheus' text format (prometheus.io/docs/instrumenting/exposition_formats).
_EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"


class Api:
    """The API of one hub."""

    def __init__(self, hub: NodeApi, *, key_needed: bool) -> None:
        self._hub = hub
        self._document = json.dumps(document(hub.settings, key_needed=key_needed)).encode()

    def publish(self) -> Response:
        """Takes one publication or an array of them."""
        later = prefers(request.headers.getlist("Prefer"), "respond-async")
        done = publish(self._hub, self._body(), report=later)
        answer = json_answer(done, HTTPStatus.ACCEPTED if later else HTTPStatus.OK)
        if later:
            answer.headers["Preference-Applied"] = "respond-async"
        if later and isinstance(done, ReceiptAnswer):
            answer.headers["Location"] = ReportQuery(done.id).path()
        return answer

    def publication(self, id: str) -> Response:
        """What became of a publication."""
        sought = ReportQuery(check_id(id), routes.CHANNEL.of(request.args) or "")
        return report_answer(self._hub.report(sought))

    def history(self, channel: str) -> Response:
        """Kept publications of a channel, oldest first."""
        name = check_channel(channel)
        since = routes.SINCE.of(request.args)
        asked, most = routes.HISTORY_LIMIT.of(request.args), self._hub.settings.history_page_max
        self._hub.metrics.history_limited += asked > most
        newest = routes.NEWEST.of(request.args)
        cursor, publications = self._hub.history(name, since=since, limit=min(asked, most), newest=newest)
        listed = b",".join(_publication_json(publication) for publication in publications)
        return json_answer(b'{"cursor":"%b","publications":[%b]}' % (str(cursor).encode(), listed))

    def presence(self, channel: str) -> Response:
        """Who is in a channel."""
        found = self._hub.presence(check_channel(channel), limit=routes.PRESENCE_LIMIT.of(request.args))
        return json_answer(found.to_json())

    def channels(self) -> Response:
        """Channels that connections listen to."""
        after, limit = routes.AFTER_CHANNEL.of(request.args), routes.LIMIT.of(request.args)
        found = self._hub.channels(after=after, limit=limit + 1, local_only=routes.HERE.of(request.args))
        rows, following = page(found.rows, "channel", after=after, limit=limit)
        listed = [ChannelAnswer.model_validate(row) for row in rows]
        return json_answer(
            ChannelsAnswer(channels=listed, next=following, nodes=found.nodes, missing=list(found.missing))
        )

    def connections(self) -> Response:
        """Connections."""
        after, limit = routes.AFTER_CONNECTION.of(request.args), routes.LIMIT.of(request.args)
        found = self._hub.connections(after=after, limit=limit + 1, local_only=routes.HERE.of(request.args))
        rows, following = page(found.rows, "connection", after=after, limit=limit)
        listed = [ConnectionAnswer.model_validate(row) for row in rows]
        return json_answer(
            ConnectionsAnswer(connections=listed, next=following, nodes=found.nodes, missing=list(found.missing))
        )

    def nodes(self) -> Response:
        """Every node that lives."""
        found = [NodeAnswer.model_validate(asdict(each)) for each in self._hub.nodes()]
        by_transport = {
            name: sum(getattr(each.connections, name) for each in found) for name in TransportsAnswer.model_fields
        }
        return json_answer(
            NodesAnswer(
                nodes=found,
                connections=TransportsAnswer(**by_transport),
                sessions=sum(each.sessions for each in found),
                subscriptions=sum(each.subscriptions for each in found),
            )
        )

    def disconnect(self, user: str) -> Response:
        """Ends a user's connections."""
        return self._disconnect(control.disconnect(user=check_user(user), connection=None))

    def disconnect_connection(self, connection: str) -> Response:
        """Ends one connection."""
        return self._disconnect(control.disconnect(user=None, connection=connection))

    def _disconnect(self, order: Command) -> Response:
        done = self._hub.run_command(order)
        return json_answer(
            DisconnectedAnswer(disconnected=done.connections, nodes=done.nodes, missing=list(done.missing))
        )

    def subscribe(self, user: str) -> Response:
        """Subscribes a user's connections."""
        return self._subscribed(control.subscribe(user=check_user(user), channel=self._channel()))

    def unsubscribe(self, user: str) -> Response:
        """Takes a channel from a user's connections."""
        return self._subscribed(control.unsubscribe(user=check_user(user), channel=self._channel()))

    def _channel(self) -> str:
        return validated(ChannelOfUser, self._body()).channel

    def _subscribed(self, order: Command) -> Response:
        done = self._hub.run_command(order)
        return json_answer(
            SubscribedAnswer(
                connections=done.connections, refused=done.refused, nodes=done.nodes, missing=list(done.missing)
            )
        )

    def revoke(self) -> Response:
        """Cuts off a user or a token."""
        body = self._body()
        names = body.keys() if isinstance(body, dict) else ()
        model = next((model for keys, model in REVOCATIONS.items() if set(keys) <= set(names)), None)
        if model is None:
            raise BadRequest("give exactly one of user and jti, and exactly one of for_s and until_s")
        asked = validated(model, body)
        until_s = time.time() + asked.for_s if isinstance(asked, RevokeUserFor | RevokeTokenFor) else asked.until_s
        user, jti = getattr(asked, "user", None), getattr(asked, "jti", None)
        done = self._hub.run_command(control.revoke(user=user, jti=jti, for_s=None, until_s=until_s, now_s=0.0))
        return json_answer(
            RevokedAnswer(
                user=user,
                jti=jti,
                until_s=until_s,
                disconnected=done.connections,
                nodes=done.nodes,
                missing=list(done.missing),
            ),
            HTTPStatus.CREATED,
        )

    def openapi(self) -> Response:
        """The description of this API."""
        return json_answer(self._document)

    def healthz(self) -> Response:
        """That the process answers."""
        insecure = self._hub.settings.insecure()
        return json_answer(HealthAnswer.model_validate({**self._hub.health(), "status": "ok", "insecure": insecure}))

    def readyz(self) -> Response:
        """Whether publications flow."""
        ready, checks = self._hub.ready()
        status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
        return json_answer(ReadyAnswer(ready=ready, checks=dict(checks)), status)

    def metrics(self) -> Response:
        """What the node counts."""
        content = render(self._hub.metrics, node=self._hub.settings.node_id)
        return Response(content, content_type=_EXPOSITION)

    def _body(self) -> object:
        try:
            return json_body(request, max_bytes=self._hub.settings.api_body_max_bytes)
        except TooLarge:
            self._hub.metrics.api_too_large += 1
            raise


def _publication_json(publication: Publication) -> bytes:
    # The same fields as Publication.to_wire, without parsing the data: id and epoch need no escapes.
    return b'{"event":%b,"data":%b,"id":"%b","cursor":"%b","at_ms":%d}' % (
        publication.fragment[: publication.event_bytes],
        publication.data_json,
        publication.id.encode(),
        publication.cursor.encode(),
        publication.at_ms,
    )
