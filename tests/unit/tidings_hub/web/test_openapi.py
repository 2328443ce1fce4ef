from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from flask.testing import FlaskClient
from pydantic import SecretStr

from support.small_hub import API_KEY, SmallHub
from tidings_hub.config.settings import Settings
from tidings_hub.web.app import create_app
from tidings_hub.web.openapi import document
from tidings_hub.web.routes import ROUTES


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        for each in value.values():
            yield from _references(each)
    elif isinstance(value, list):
        for each in value:
            yield from _references(each)


def test_every_reference_leads_somewhere_and_every_schema_is_used() -> None:
    described = document(Settings(), key_needed=True)
    names = {reference.removeprefix("#/components/schemas/") for reference in _references(described)}

    assert names == set(described["components"]["schemas"])


def test_flask_and_the_description_have_the_same_addresses(client: FlaskClient) -> None:
    rules = {rule.rule for rule in client.application.url_map.iter_rules()} - {"/", "/tidings.js", "/tidings.js.map"}

    assert rules == {route.rule for route in ROUTES}
    described = document(Settings(), key_needed=True)
    assert set(described["paths"]) == {rule.replace("<", "{").replace(">", "}") for rule in rules}


def test_the_bounds_are_those_of_the_settings(client: FlaskClient) -> None:
    described = client.get("/api/openapi.json").json
    assert described is not None

    body = described["paths"]["/api/publish"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["oneOf"][-1]["maxItems"] == 5
    assert described["openapi"] == "3.1.0"


def test_keys_are_described_where_they_are_needed_and_shown_nowhere() -> None:
    hub = SmallHub(Settings(api_keys=(SecretStr(API_KEY),)))
    client = create_app(hub).test_client()
    answer = client.get("/api/openapi.json", headers={"Authorization": f"Bearer {API_KEY}"})
    described = json.loads(answer.text)

    assert described["paths"]["/api/publish"]["post"]["security"] == [{"key": []}]
    assert "security" not in described["paths"]["/healthz"]["get"]
    assert API_KEY not in answer.text
    assert "securitySchemes" not in document(Settings(dev=True), key_needed=False)["components"]
