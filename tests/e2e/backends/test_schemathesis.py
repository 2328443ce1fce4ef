"""The HTTP API matches its OpenAPI document: it accepts valid requests and rejects all others.

Schemathesis generates every example from `/api/openapi.json`, with all checks enabled.
"""

from __future__ import annotations

from typing import Any

import schemathesis
from flask import Flask
from hypothesis import HealthCheck, settings
from pydantic import SecretStr
from schemathesis.config import SchemathesisConfig

from support.small_hub import API_KEY, SmallHub
from tidings_hub.config.settings import Settings
from tidings_hub.web.app import create_app

_BEARER = {"Authorization": f"Bearer {API_KEY}"}


def _app(*, dev: bool) -> Flask:
    return create_app(SmallHub(Settings(dev=dev, api_keys=() if dev else (SecretStr(API_KEY),))))


# The API rejects an array over `maxItems` with 413. Schemathesis does not expect this status by default.
_CONFIG = SchemathesisConfig.from_dict(
    {"checks": {"negative_data_rejection": {"expected-statuses": [400, 401, 403, 404, 406, 413, 415]}}}
)
_guarded_api = schemathesis.openapi.from_wsgi("/api/openapi.json", _app(dev=False), config=_CONFIG, headers=_BEARER)
_open_api = schemathesis.openapi.from_wsgi("/api/openapi.json", _app(dev=True), config=_CONFIG)


@schemathesis.hook("filter_query")
def _has_values(_context: schemathesis.HookContext, query: dict[str, Any] | None) -> bool:
    """Skip queries with an empty value. It would not be sent, so the request would be valid."""
    return all(value not in (None, [], {}) for value in (query or {}).values())


_settings = settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@_guarded_api.parametrize()
@_settings
def test_api_matches_its_description_with_keys(case: schemathesis.Case[Any]) -> None:
    case.call_and_validate(headers=_BEARER)


@_open_api.parametrize()
@_settings
def test_api_matches_its_description_without_keys_in_dev_mode(case: schemathesis.Case[Any]) -> None:
    case.call_and_validate()
