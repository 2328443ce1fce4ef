"""The HTTP API matches its OpenAPI document: it accepts valid requests and rejects all others.

Schemathesis generates every example from `/api/openapi.json`, with all checks enabled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import schemathesis
from flask import Flask
from hypothesis import HealthCheck, settings
from schemathesis.config import SchemathesisConfig

from support.direct_first import DirectFirst, create_direct_app
from support.notification_node import NotificationNode
from support.ports import free_port
from support.processes.hub import SECRET
from support.small_hub import API_KEY, SmallHub
from tidings_hub.config.settings import Settings
from tidings_hub.services.api import NodeApi
from tidings_hub.web.app import create_app

_BEARER = {"Authorization": f"Bearer {API_KEY}"}


def _app(*, dev: bool, create: Callable[[NodeApi], Flask] = create_app, **more: Any) -> Flask:
    settings = Settings.model_validate({"dev": dev, "api_keys": [] if dev else [API_KEY], **more})
    return create(SmallHub(settings))


# The API rejects an array over `maxItems` with 413. Schemathesis does not expect this status by default.
_CONFIG = SchemathesisConfig.from_dict(
    {"checks": {"negative_data_rejection": {"expected-statuses": [400, 401, 403, 404, 406, 413, 415]}}}
)
_guarded_api = schemathesis.openapi.from_wsgi("/api/openapi.json", _app(dev=False), config=_CONFIG, headers=_BEARER)
_direct_app = _app(dev=False, create=create_direct_app)
_direct_api = schemathesis.openapi.from_wsgi("/api/openapi.json", _direct_app, config=_CONFIG, headers=_BEARER)
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


@_direct_api.include(path_regex="publish|healthz").parametrize()
@_settings
def test_api_matches_its_description_without_flask(case: schemathesis.Case[Any]) -> None:
    case.call_and_validate(headers=_BEARER)


def test_requests_without_flask_were_among_them() -> None:
    assert isinstance(_direct_app.wsgi_app, DirectFirst)
    counts = Counter(_direct_app.wsgi_app.direct_paths)
    assert min(counts["/api/publish"], counts["/healthz"]) > 0


@_open_api.parametrize()
@_settings
def test_api_matches_its_description_without_keys_in_dev_mode(case: schemathesis.Case[Any]) -> None:
    case.call_and_validate()


_service_port = free_port()
_inbox_app = _app(
    dev=False,
    secret=SECRET,
    notifications={"url": f"http://127.0.0.1:{_service_port}", "categories": {"order_shipped": {}, "mention": {}}},
)
_inbox_api = schemathesis.openapi.from_wsgi("/api/openapi.json", _inbox_app, config=_CONFIG, headers=_BEARER)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NotificationNode]:
    """A notification service on SQLite."""
    node = NotificationNode(tmp_path_factory.mktemp("node"), service_port=_service_port)
    try:
        yield node.start()
    finally:
        node.stop()


@_inbox_api.include(path_regex="notifications").parametrize()
@_settings
def test_api_of_notifications_matches_its_description(service: NotificationNode, case: schemathesis.Case[Any]) -> None:
    case.call_and_validate(headers=_BEARER)


def test_notifications_were_stored(service: NotificationNode) -> None:
    assert service.service.metric("tidings_notifications_stored_total") > 0
