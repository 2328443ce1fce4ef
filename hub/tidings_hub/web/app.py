"""The Flask application of a hub: everything that is not the engine's."""

from __future__ import annotations

from collections.abc import Callable

from flask import Flask, Response, request

from tidings_hub.services.api import NodeApi
from tidings_hub.web import responses as answers
from tidings_hub.web.api import Api
from tidings_hub.web.api_keys import Keys
from tidings_hub.web.body import accepts
from tidings_hub.web.page import dev_page, running
from tidings_hub.web.pusher import PusherApi
from tidings_hub.web.query import check_names
from tidings_hub.web.routes import ROUTES, Route, guarded
from tidings_hub.web.sdk import ENDPOINT, NAMES, sdk_file


def create_app(hub: NodeApi) -> Flask:
    """The WSGI application of `hub`.

    Under `--dev` it has the page and its files as well. Requests under `/api/` and for `/metrics`
    need one of the settings' `api_keys`, except under `--dev` without any.
    """
    settings = hub.settings
    app = Flask(__name__, static_folder="static" if settings.dev else None)
    # `//api/publish` is not an address of ours; a redirect would make it one.
    app.url_map.merge_slashes = False
    keys = Keys((key.get_secret_value() for key in settings.api_keys), open_=settings.dev, metrics=hub.metrics)
    by_name = {route.name: route for route in ROUTES}
    known = settings.api_keys

    def admit() -> None:
        nonlocal known
        if hub.settings.api_keys is not known:
            # Reloaded.
            known = hub.settings.api_keys
            keys.use(key.get_secret_value() for key in known)
        # Before routing errors are raised: without a key nobody learns which addresses exist.
        if guarded(request.path):
            keys.check(request)
        route = by_name.get(request.endpoint or "")
        if route is not None:
            _check_form(route)

    def count(answer: Response) -> Response:
        if guarded(request.path):
            hub.metrics.count(hub.metrics.api_requests, str(answer.status_code))
        return answer

    answers.install(app)
    app.before_request(admit)
    app.after_request(count)
    _add_routes(app, hub, keys)
    if settings.ingress.pusher is not None:
        PusherApi(hub, settings.ingress.pusher).install(app)
    return app


def _check_form(route: Route) -> None:
    check_names(request.args, route.query)
    media_type = "text/plain" if None in route.answers.values() else "application/json"
    if not accepts(request, media_type):
        raise answers.NotAcceptable(f"this address answers {media_type}; say so in Accept")


def _add_routes(app: Flask, hub: NodeApi, keys: Keys) -> None:
    api = Api(hub, key_needed=keys.needed)
    views: dict[str, Callable[..., Response]] = {
        "publish": api.publish,
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
        return dev_page(key_needed=keys.needed) if hub.settings.dev else running()

    _add(app, "/", "index", index, "GET")
    for name in NAMES:
        app.add_url_rule(
            f"/{name}", ENDPOINT, sdk_file, defaults={"name": name}, methods=["GET"], provide_automatic_options=False
        )


def _add(app: Flask, rule: str, name: str, view: Callable[..., Response], method: str) -> None:
    # OPTIONS is for CORS, which the API does not offer.
    app.add_url_rule(rule, name, view, methods=[method], provide_automatic_options=False)
