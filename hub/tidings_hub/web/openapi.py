"""The API's description in OpenAPI 3.1, made from the routes and the models, so that it cannot differ."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from tidings_hub.config.settings import Settings
from tidings_hub.web import models
from tidings_hub.web.routes import ROUTES, Route
from tidings_hub.web.schemas import Schema

_TEMPLATE = "#/components/schemas/{model}"
_VARIABLE = re.compile(r"<(\w+)>")
_REFUSALS = {
    400: "Not of the documented form",
    401: "No valid API key",
    403: "The rules do not allow it, or under --dev without keys: asked under another name than localhost",
    404: "No such channel, namespace or address",
    406: "The Accept header leaves out what this address answers",
    413: "Larger than a limit, which is named",
    415: "Not application/json in UTF-8, or compressed",
    500: "A mistake in the hub",
    503: "The broker cannot be reached; nothing was published",
    504: "The broker did not answer in time; try again with the same id",
}
_ABOUT = (
    "Publish from a backend, look into the node, cut users off. Every error is "
    '`{"error": {"code", "message"}}`. Clients listen over Socket.IO at `/socket.io/` or server-sent events at `/sse`.'
)


def document(settings: Settings, *, key_needed: bool) -> Schema:
    """The OpenAPI document of a node that runs with `settings`."""
    schemas = _schemas()
    # What the node's own settings bound:
    schemas["PublishToChannels"]["properties"]["channels"]["maxItems"] = settings.max_batch
    found: Schema = {
        "openapi": "3.1.0",
        "info": {"title": "tidings", "version": _version(), "description": _ABOUT, "license": {"name": "MIT"}},
        "servers": [{"url": "/"}],
        "paths": {},
        "components": {"schemas": schemas},
    }
    if key_needed:
        found["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for route in ROUTES:
        path = _VARIABLE.sub(r"{\1}", route.rule)
        operation = _operation(route, settings, key_needed=key_needed)
        found["paths"].setdefault(path, {})[route.method.lower()] = operation
    return found


def _version() -> str:
    try:
        return version("tidings")
    except PackageNotFoundError:
        # Run from the source tree without an install.
        return "0"


def _schemas() -> dict[str, Any]:
    asked = [model for route in ROUTES for model in route.body]
    answered = [
        model
        for route in ROUTES
        for answer in route.answers.values()
        for model in (answer["oneOf"] if isinstance(answer, dict) and "oneOf" in answer else [answer])
        if isinstance(model, type)
    ]
    _, found = models_json_schema(
        [(model, "validation") for model in asked]
        + [(model, "serialization") for model in (*answered, models.ErrorAnswer)],
        ref_template=_TEMPLATE,
    )
    schemas: dict[str, Any] = found["$defs"]
    return schemas


def _operation(route: Route, settings: Settings, *, key_needed: bool) -> Schema:
    own = (401, 403) if route.guarded else ()
    refusals = sorted({*route.refusals, *own, 406, 500} - set(route.answers))
    operation: Schema = {
        "operationId": route.name,
        "summary": route.about,
        "parameters": _parameters(route),
        "responses": {
            **{str(status): _answer(answer) for status, answer in route.answers.items()},
            **{str(status): _refusal(status) for status in refusals},
        },
    }
    if route.body:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _body(route, settings)}},
        }
    if route.guarded and key_needed:
        operation["security"] = [{"key": []}]
    return operation


def _parameters(route: Route) -> list[Schema]:
    return [
        *({"name": name, "in": "path", "required": True, "schema": schema} for name, schema in route.path.items()),
        *({"name": one.name, "in": "query", "description": one.about, "schema": one.schema} for one in route.query),
        *(
            {"name": name, "in": "header", "description": about, "schema": {"type": "string"}}
            for name, about in route.headers.items()
        ),
    ]


def _body(route: Route, settings: Settings) -> Schema:
    one = [_reference(model) for model in route.body]
    if not route.array:
        return {"oneOf": one}
    # An item that is wrong is answered in its place, so anything may stand in the array.
    anything = {"description": "Anything else is answered with its error in the same place"}
    items = {"anyOf": [*one, anything]}
    return {"oneOf": [*one, {"type": "array", "minItems": 1, "maxItems": settings.max_batch, "items": items}]}


def _reference(model: type[BaseModel]) -> Schema:
    return {"$ref": _TEMPLATE.format(model=model.__name__)}


def _answer(answer: type[BaseModel] | Schema | None) -> Schema:
    if answer is None:
        return {"description": "The answer", "content": {"text/plain": {"schema": {"type": "string"}}}}
    if isinstance(answer, dict):
        schema = {"oneOf": [_reference(model) for model in answer["oneOf"]]} if "oneOf" in answer else answer
    else:
        schema = _reference(answer)
    return {"description": "The answer", "content": {"application/json": {"schema": schema}}}


def _refusal(status: int) -> Schema:
    found: Schema = {
        "description": _REFUSALS[status],
        "content": {"application/json": {"schema": _reference(models.ErrorAnswer)}},
    }
    if status == 401:
        found["headers"] = {"WWW-Authenticate": {"required": True, "schema": {"type": "string"}}}
    return found
