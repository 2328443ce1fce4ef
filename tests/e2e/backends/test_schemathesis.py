"""The HTTP API against its own description: it accepts what the description allows and refuses the rest.

Every example is generated from `/api/openapi.json`; all of schemathesis' checks are on.
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


# The API refuses an array over `maxItems` with 413, which schemathesis does not count as a refusal.
_CONFIG = SchemathesisConfig.from_dict(
    {"checks": {"negative_data_rejection": {"expected-statuses": [400, 401, 403, 404, 406, 413, 415]}}}
)
_guarded_api = schemathesis.openapi.from_wsgi("/api/openapi.json", _app(dev=False), config=_CONFIG, headers=_BEARER)
_open_api = schemathesis.openapi.from_wsgi("/api/openapi.json", _app(dev=True), config=_CONFIG)


@schemathesis.hook("filter_query")
def _can_be_sent(_context: schemathesis.HookContext, query: dict[str, Any] | None) -> bool:
    """Skip queries with an empty value: it is not sent, so the request is valid."""
    return all(value not in (None, [], {}) for value in (query or {}).values())


_few = settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@_guarded_api.parametrize()
@_few
def test_api_matches_its_description_with_keys(case: schemathesis.Case[Any]) -> None:
    case.call_and_validate(headers=_BEARER)


@_open_api.parametrize()
@_few
def test_api_matches_its_description_without_keys_in_dev_mode(case: schemathesis.Case[Any]) -> None:
    case.call_and_validate()
