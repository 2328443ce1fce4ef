"""The handlers of the HTTP API. `routes.py` has the address of each."""

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
from tidings.wire.publication import history_json
from tidings.wire.reports import ReportQuery
from tidings_hub.metrics import render
from tidings_hub.services.api import NodeApi
from tidings_hub.web import routes
from tidings_hub.web.body import json_body
from tidings_hub.web.notifying import notify
from tidings_hub.web.openapi import document
from tidings_hub.web.publishing import publish
from tidings_hub.web.query import has_preference, paginate
from tidings_hub.web.reports import report_response
from tidings_hub.web.request_models import REVOCATIONS, ChannelBody, NotificationsById, NotificationsOfGroup, validate
from tidings_hub.web.response_models import (
    ChannelResponse,
    ChannelsResponse,
    ConnectionResponse,
    ConnectionsResponse,
    DisconnectResponse,
    HealthResponse,
    NodeResponse,
    NodesResponse,
    ReadinessResponse,
    ReceiptResponse,
    RevocationResponse,
    SubscriptionResponse,
    TransportsResponse,
)
from tidings_hub.web.responses import json_response
from tidings_hub.web.schemas import check_user

# The text format of Prometheus (prometheus.io/docs/instrumenting/exposition_formats).
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def health_response(hub: NodeApi) -> Response:
    """The response of a process that answers requests. Never waits."""
    insecure = hub.settings.insecure_options()
    return json_response(HealthResponse.model_validate({**hub.health(), "status": "ok", "insecure": insecure}))


class Api:
    """The HTTP API of one node. Each method answers the current Flask request."""

    def __init__(self, hub: NodeApi, *, key_needed: bool) -> None:
        self._hub = hub
        self._document = json.dumps(document(hub.settings, key_needed=key_needed)).encode()

    def publish(self) -> Response:
        """Publish one publication or an array of them."""
        is_async = has_preference(request.headers.getlist("Prefer"), "respond-async")
        results = publish(self._hub, self._body(), report=is_async)
        response = json_response(results, HTTPStatus.ACCEPTED if is_async else HTTPStatus.OK)
        if is_async:
            response.headers["Preference-Applied"] = "respond-async"
        if is_async and isinstance(results, ReceiptResponse):
            response.headers["Location"] = ReportQuery(results.id).path()
        return response

    def notify(self) -> Response:
        """Store one notification or an array of them."""
        return json_response(notify(self._hub, self._body()))

    def delete_notifications(self, user: str) -> Response:
        """Delete notifications of a user."""
        body = self._body()
        names = body.keys() if isinstance(body, dict) else ()
        if not {"ids", "group"} & set(names):
            raise BadRequest("ids and group are missing; give one of them")
        deletion = validate(NotificationsOfGroup if "group" in names else NotificationsById, body)
        return json_response(self._hub.notifications.delete(check_user(user), deletion.model_dump()).encode())

    def publication(self, id: str) -> Response:
        """Return the delivery report of a publication."""
        query = ReportQuery(check_id(id), routes.CHANNEL.value_in(request.args) or "")
        return report_response(self._hub.report(query))

    def history(self, channel: str) -> Response:
        """Return the stored publications of a channel, oldest first."""
        name = check_channel(channel)
        since = routes.SINCE.value_in(request.args)
        limit, limit_max = routes.HISTORY_LIMIT.value_in(request.args), self._hub.settings.history_page_max
        self._hub.metrics.history_limited += limit > limit_max
        newest = routes.NEWEST.value_in(request.args)
        if newest is None:
            # As `Emitter.history` and the events of clients.
            newest = since is None
        cursor, publications = self._hub.history(name, since=since, limit=min(limit, limit_max), newest=newest)
        return json_response(history_json(cursor, publications))

    def presence(self, channel: str) -> Response:
        """Return the members of a channel."""
        presence = self._hub.presence(check_channel(channel), limit=routes.PRESENCE_LIMIT.value_in(request.args))
        return json_response(presence.to_json())

    def channels(self) -> Response:
        """Return one page of the channels with subscriptions."""
        after, limit = routes.AFTER_CHANNEL.value_in(request.args), routes.LIMIT.value_in(request.args)
        page = self._hub.channels(after=after, limit=limit + 1, local_only=routes.LOCAL_ONLY.value_in(request.args))
        rows, next_after = paginate(page.rows, "channel", after=after, limit=limit)
        channels = [ChannelResponse.model_validate(row) for row in rows]
        return json_response(
            ChannelsResponse(channels=channels, next=next_after, nodes=page.nodes, missing=list(page.missing))
        )

    def connections(self) -> Response:
        """Return one page of the connections."""
        after, limit = routes.AFTER_CONNECTION.value_in(request.args), routes.LIMIT.value_in(request.args)
        page = self._hub.connections(after=after, limit=limit + 1, local_only=routes.LOCAL_ONLY.value_in(request.args))
        rows, next_after = paginate(page.rows, "connection", after=after, limit=limit)
        connections = [ConnectionResponse.model_validate(row) for row in rows]
        return json_response(
            ConnectionsResponse(connections=connections, next=next_after, nodes=page.nodes, missing=list(page.missing))
        )

    def nodes(self) -> Response:
        """Return every live node, and totals."""
        nodes = [NodeResponse.model_validate(asdict(record)) for record in self._hub.nodes()]
        by_transport = {
            name: sum(getattr(node.connections, name) for node in nodes) for name in TransportsResponse.model_fields
        }
        return json_response(
            NodesResponse(
                nodes=nodes,
                connections=TransportsResponse(**by_transport),
                sessions=sum(node.sessions for node in nodes),
                subscriptions=sum(node.subscriptions for node in nodes),
            )
        )

    def disconnect(self, user: str) -> Response:
        """Close the connections of a user."""
        return self._disconnect(control.disconnect(user=check_user(user), connection=None))

    def disconnect_connection(self, connection: str) -> Response:
        """Close one connection."""
        return self._disconnect(control.disconnect(user=None, connection=connection))

    def _disconnect(self, command: Command) -> Response:
        result = self._hub.run_command(command)
        return json_response(
            DisconnectResponse(disconnected=result.connections, nodes=result.nodes, missing=list(result.missing))
        )

    def subscribe(self, user: str) -> Response:
        """Subscribe the connections of a user to a channel."""
        return self._change_subscriptions(control.subscribe(user=check_user(user), channel=self._channel()))

    def unsubscribe(self, user: str) -> Response:
        """Unsubscribe the connections of a user from a channel."""
        return self._change_subscriptions(control.unsubscribe(user=check_user(user), channel=self._channel()))

    def _channel(self) -> str:
        return validate(ChannelBody, self._body()).channel

    def _change_subscriptions(self, command: Command) -> Response:
        result = self._hub.run_command(command)
        return json_response(
            SubscriptionResponse(
                connections=result.connections,
                refused=result.refused,
                nodes=result.nodes,
                missing=list(result.missing),
            )
        )

    def revoke(self) -> Response:
        """Revoke a user or a token."""
        body = self._body()
        names = body.keys() if isinstance(body, dict) else ()
        model = next((model for keys, model in REVOCATIONS.items() if set(keys) <= set(names)), None)
        if model is None:
            raise BadRequest("give exactly one of user and jti, and exactly one of for_s and until_s")
        revocation = validate(model, body)
        user, jti, for_s, until_s = (getattr(revocation, name, None) for name in ("user", "jti", "for_s", "until_s"))
        command = control.revoke(user=user, jti=jti, for_s=for_s, until_s=until_s, now_s=time.time())
        result = self._hub.run_command(command)
        return json_response(
            RevocationResponse(
                user=user,
                jti=jti,
                until_s=float(command.arguments["until_s"]),
                disconnected=result.connections,
                nodes=result.nodes,
                missing=list(result.missing),
            ),
            HTTPStatus.CREATED,
        )

    def openapi(self) -> Response:
        """Return the OpenAPI document of this API."""
        return json_response(self._document)

    def healthz(self) -> Response:
        """Return 200 while the process answers requests."""
        return health_response(self._hub)

    def readyz(self) -> Response:
        """Return 200 if publications flow through this node, and 503 if not."""
        ready, checks = self._hub.ready()
        status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
        return json_response(ReadinessResponse(ready=ready, checks=dict(checks)), status)

    def metrics(self) -> Response:
        """Return the metrics of this node."""
        content = render(self._hub.metrics, node=self._hub.settings.node_id)
        return Response(content, content_type=_METRICS_TYPE)

    def _body(self) -> object:
        try:
            return json_body(request, max_bytes=self._hub.settings.api_body_max_bytes)
        except TooLarge:
            self._hub.metrics.api_too_large += 1
            raise
