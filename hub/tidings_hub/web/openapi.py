"""Generates the OpenAPI 3.1 document of the HTTP API from the routes and the models."""

from __future__ import annotations

import json
import re
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from tidings_hub.config.settings import Settings
from tidings_hub.web.response_models import ErrorResponse
from tidings_hub.web.routes import ROUTES, Route
from tidings_hub.web.schemas import Schema

_TEMPLATE = "#/components/schemas/{model}"
_REFERENCE = re.compile(r"#/components/schemas/(\w+)")
_VARIABLE = re.compile(r"<(\w+)>")
_ERRORS = {
    400: "The request does not have the documented form",
    401: "No valid API key",
    403: "The rules do not allow it. With --dev and no keys: the Host header is not localhost",
    404: "No such channel, namespace or address",
    406: "The Accept header excludes the media type of the response",
    413: "Larger than a limit; the message names it",
    415: "The body is not application/json in UTF-8, or it is compressed",
    500: "Internal error of the hub",
    503: "The broker cannot be reached; nothing was published",
    504: "The broker did not reply in time; retry with the same id",
}
_DESCRIPTION = (
    "Publish from a backend, inspect the nodes, revoke users and tokens. Every error is "
    '`{"error": {"code", "message"}}`. Clients connect with Socket.IO at `/socket.io/` or server-sent events at `/sse`.'
)


def document(settings: Settings, *, key_needed: bool) -> Schema:
    """The OpenAPI document of a node that runs with `settings`."""
    schemas = _schemas()
    # These depend on the settings of the node.
    schemas["PublishToChannels"]["properties"]["channels"]["maxItems"] = settings.max_batch
    if settings.notifications.categories:
        for name in ("NotifyUser", "NotifyUsers"):
            schemas[name]["properties"]["category"]["enum"] = sorted(settings.notifications.categories)
    openapi: Schema = {
        "openapi": "3.1.0",
        "info": {"title": "tidings", "version": _version(), "description": _DESCRIPTION, "license": {"name": "MIT"}},
        "servers": [{"url": "/"}],
        "paths": {},
        "components": {"schemas": schemas},
    }
    if key_needed:
        openapi["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for route in ROUTES:
        path = _VARIABLE.sub(r"{\1}", route.rule)
        operation = _operation(route, settings, key_needed=key_needed)
        openapi["paths"].setdefault(path, {})[route.method.lower()] = operation
    return openapi


def _version() -> str:
    try:
        return version("tidings")
    except PackageNotFoundError:
        # The hub runs from the source tree and is not installed.
        return "0"


def _schemas() -> dict[str, Any]:
    """The schema of each model, by its title."""
    request_models = [model for route in ROUTES for model in route.body]
    response_models = [
        model
        for route in ROUTES
        for response in route.responses.values()
        for model in (response["oneOf"] if isinstance(response, dict) and "oneOf" in response else [response])
        if isinstance(model, type)
    ]
    _, definitions = models_json_schema(
        [(model, "validation") for model in request_models]
        + [(model, "serialization") for model in (*response_models, ErrorResponse)],
        ref_template=_TEMPLATE,
    )
    # Pydantic names the schemas by class.
    schemas: dict[str, Any] = definitions["$defs"]
    titles = {name: schema["title"] for name, schema in schemas.items()}
    text = _REFERENCE.sub(lambda match: _TEMPLATE.format(model=titles[match[1]]), json.dumps(schemas))
    return {titles[name]: schema for name, schema in json.loads(text).items()}


def _operation(route: Route, settings: Settings, *, key_needed: bool) -> Schema:
    key_statuses = (401, 403) if route.needs_key else ()
    error_statuses = sorted({*route.error_statuses, *key_statuses, 406, 500} - set(route.responses))
    operation: Schema = {
        "operationId": route.name,
        "summary": route.summary,
        "parameters": _parameters(route),
        "responses": {
            **{str(status): _response(response) for status, response in route.responses.items()},
            **{str(status): _error_response(status) for status in error_statuses},
        },
    }
    if route.body:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _body(route, settings)}},
        }
    if route.needs_key and key_needed:
        operation["security"] = [{"key": []}]
    return operation


def _parameters(route: Route) -> list[Schema]:
    return [
        *({"name": name, "in": "path", "required": True, "schema": schema} for name, schema in route.path.items()),
        *(
            {
                "name": parameter.name,
                "in": "query",
                "description": parameter.description,
                "schema": parameter.schema,
            }
            for parameter in route.query
        ),
        *(
            {"name": name, "in": "header", "description": description, "schema": {"type": "string"}}
            for name, description in route.headers.items()
        ),
    ]


def _body(route: Route, settings: Settings) -> Schema:
    alternatives = [_reference(model) for model in route.body]
    if not route.accepts_array:
        return {"oneOf": alternatives}
    # A wrong item gets an error as its result, so the array may contain anything.
    anything = {"description": "For anything else, the result in the same position is an error"}
    items = {"anyOf": [*alternatives, anything]}
    return {"oneOf": [*alternatives, {"type": "array", "minItems": 1, "maxItems": settings.max_batch, "items": items}]}


def _reference(model: type[BaseModel]) -> Schema:
    return {"$ref": _TEMPLATE.format(model=model.model_config.get("title") or model.__name__)}


def _response(body: type[BaseModel] | Schema | None) -> Schema:
    if body is None:
        return {"description": "Success", "content": {"text/plain": {"schema": {"type": "string"}}}}
    if isinstance(body, dict):
        schema = {"oneOf": [_reference(model) for model in body["oneOf"]]} if "oneOf" in body else body
    else:
        schema = _reference(body)
    return {"description": "Success", "content": {"application/json": {"schema": schema}}}


def _error_response(status: int) -> Schema:
    response: Schema = {
        "description": _ERRORS[status],
        "content": {"application/json": {"schema": _reference(ErrorResponse)}},
    }
    if status == 401:
        response["headers"] = {"WWW-Authenticate": {"required": True, "schema": {"type": "string"}}}
    return response
