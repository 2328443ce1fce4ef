from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from flask.testing import FlaskClient
from pydantic import SecretStr

from support.small_hub import API_KEY, SmallHub
from tidings_hub.config.settings import Settings
from tidings_hub.web.app import create_app
from tidings_hub.web.inbox_views import INBOX_PATHS
from tidings_hub.web.openapi import document
from tidings_hub.web.routes import ROUTES
from tidings_hub.web.sdk import NAMES


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        for child in value.values():
            yield from _references(child)
    elif isinstance(value, list):
        for child in value:
            yield from _references(child)


def test_every_reference_has_a_schema_and_every_schema_is_referenced() -> None:
    openapi = document(Settings(), key_needed=True)
    names = {reference.removeprefix("#/components/schemas/") for reference in _references(openapi)}

    assert names == set(openapi["components"]["schemas"])


def test_document_and_flask_have_the_same_paths(client: FlaskClient) -> None:
    others = {"/", *(f"/{name}" for name in NAMES), *INBOX_PATHS}
    rules = {rule.rule for rule in client.application.url_map.iter_rules()} - others

    assert rules == {route.rule for route in ROUTES}
    openapi = document(Settings(), key_needed=True)
    assert set(openapi["paths"]) == {rule.replace("<", "{").replace(">", "}") for rule in rules}


def test_document_has_the_limits_of_the_settings(client: FlaskClient) -> None:
    openapi = client.get("/api/openapi.json").json
    assert openapi is not None

    body = openapi["paths"]["/api/publish"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["oneOf"][-1]["maxItems"] == 5
    assert openapi["openapi"] == "3.1.0"


def test_document_describes_keys_where_they_are_required_and_contains_none() -> None:
    hub = SmallHub(Settings(api_keys=(SecretStr(API_KEY),)))
    client = create_app(hub).test_client()
    response = client.get("/api/openapi.json", headers={"Authorization": f"Bearer {API_KEY}"})
    openapi = json.loads(response.text)

    assert openapi["paths"]["/api/publish"]["post"]["security"] == [{"key": []}]
    assert "security" not in openapi["paths"]["/healthz"]["get"]
    assert API_KEY not in response.text
    assert "securitySchemes" not in document(Settings(dev=True), key_needed=False)["components"]


def test_schema_names_are_the_titles_of_the_models() -> None:
    """Clients are generated from these names. They stay when a class is renamed."""
    schemas = document(Settings(), key_needed=True)["components"]["schemas"]

    assert all(schema["title"] == name for name, schema in schemas.items())
    assert {"ReceiptAnswer", "ErrorAnswer", "Fault", "EachChannel", "EachItem", "ReportAnswer"} <= set(schemas)
