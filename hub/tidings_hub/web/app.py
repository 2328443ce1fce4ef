"""The Flask application of a node. It serves everything that the engine does not serve itself."""

from __future__ import annotations

from collections.abc import Callable

from flask import Flask, Response, request

from tidings_hub.services.api import NodeApi
from tidings_hub.web import responses
from tidings_hub.web.api import Api
from tidings_hub.web.api_keys import ApiKeys
from tidings_hub.web.body import accepts
from tidings_hub.web.inbox_views import InboxViews
from tidings_hub.web.page import dev_page, status_page
from tidings_hub.web.pusher import PusherApi
from tidings_hub.web.query import check_names
from tidings_hub.web.routes import ROUTES, Route, needs_key
from tidings_hub.web.sdk import ENDPOINT, NAMES, sdk_file


def create_app(hub: NodeApi) -> Flask:
    """Create the WSGI application of a node.

    Requests to `/api/` and `/metrics` require one of the `api_keys`, except with `--dev` and no keys. With `--dev` the
    application also serves the demo page and its files.
    """
    settings = hub.settings
    app = Flask(__name__, static_folder="static" if settings.dev else None)
    # `//api/publish` is not found. With merged slashes Flask would redirect it to `/api/publish`.
    app.url_map.merge_slashes = False
    keys = ApiKeys(settings, hub.metrics)
    routes_by_name = {route.name: route for route in ROUTES}

    def check_request() -> None:
        keys.update(hub.settings)
        # This runs before Flask raises 404, so a caller without a key does not learn which addresses exist.
        if needs_key(request.path):
            keys.check(request)
        route = routes_by_name.get(request.endpoint or "")
        if route is not None:
            _check_query_and_accept(route)

    def count_request(response: Response) -> Response:
        if needs_key(request.path):
            hub.metrics.count(hub.metrics.api_requests, str(response.status_code))
        return response

    responses.install(app)
    app.before_request(check_request)
    app.after_request(count_request)
    _add_routes(app, hub, keys)
    InboxViews(hub).install(app)
    if settings.ingress.pusher is not None:
        PusherApi(hub, settings.ingress.pusher).install(app)
    return app


def _check_query_and_accept(route: Route) -> None:
    check_names(request.args, route.query)
    media_type = "text/plain" if None in route.responses.values() else "application/json"
    if not accepts(request, media_type):
        raise responses.NotAcceptable(f"this address returns {media_type}; add it to the Accept header")


def _add_routes(app: Flask, hub: NodeApi, keys: ApiKeys) -> None:
    api = Api(hub, key_needed=keys.required)
    views: dict[str, Callable[..., Response]] = {
        "publish": api.publish,
        "notify": api.notify,
        "delete_notifications": api.delete_notifications,
        "publication": api.publication,
        "history": api.history,
        "presence": api.presence,
        "channels": api.channels,
        "connections": api.connections,
        "disconnect": api.disconnect,
        "disconnect_connection": api.disconnect_connection,
        "subscribe": api.subscribe,
        "unsubscribe": api.unsubscribe,
        "nodes": api.nodes,
        "revoke": api.revoke,
        "openapi": api.openapi,
        "healthz": api.healthz,
        "readyz": api.readyz,
        "metrics": api.metrics,
    }
    for route in ROUTES:
        _add(app, route.rule, route.name, views[route.name], route.method)

    def index() -> Response:
        return dev_page(key_needed=keys.required) if hub.settings.dev else status_page()

    _add(app, "/", "index", index, "GET")
    for name in NAMES:
        app.add_url_rule(
            f"/{name}", ENDPOINT, sdk_file, defaults={"name": name}, methods=["GET"], provide_automatic_options=False
        )


def _add(app: Flask, rule: str, name: str, view: Callable[..., Response], method: str) -> None:
    # Flask would answer OPTIONS by itself, but the API does not support CORS.
    app.add_url_rule(rule, name, view, methods=[method], provide_automatic_options=False)
