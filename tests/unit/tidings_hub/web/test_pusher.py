from __future__ import annotations

import json
import time
from typing import Any

import pytest
from flask.testing import FlaskClient
from pydantic import SecretStr
from werkzeug.test import TestResponse

from support.small_hub import SmallHub
from tidings_hub.config.ingress import Ingress, PusherApp
from tidings_hub.config.security import Namespace
from tidings_hub.config.settings import Settings
from tidings_hub.core.compat.pusher import PusherCredentials
from tidings_hub.web.app import create_app
from unit.tidings_hub.core.compat.test_pusher import APP, signed

GOOD: dict[str, Any] = {"name": "updated", "channel": "orders:42", "data": '{"id": 42}'}


@pytest.fixture
def hub() -> SmallHub:
    pusher = PusherApp(app_id=APP.app_id, key=APP.key, secret=SecretStr(APP.secret), namespace="pusher")
    return SmallHub(
        Settings(
            namespaces={"orders": Namespace(), "pusher": Namespace()},
            ingress=Ingress(pusher=pusher),
            max_batch=3,
            api_body_max_bytes=4096,
            publication_max_bytes=256,
        )
    )


@pytest.fixture
def client(hub: SmallHub) -> FlaskClient:
    """Requests without an API key."""
    return create_app(hub).test_client()


def post(
    client: FlaskClient, event: object, endpoint: str = "events", *, app: PusherCredentials = APP, **parameters: str
) -> TestResponse:
    body = event if isinstance(event, bytes) else json.dumps(event).encode()
    path = f"/apps/{app.app_id}/{endpoint}"
    query = signed(body, app=app, path=path, auth_timestamp=str(int(time.time()))) | parameters
    return client.post(path, query_string=query, data=body, content_type="application/json")


def assert_rejected(hub: SmallHub, response: TestResponse, status: int, text: str) -> None:
    assert (response.status_code, response.mimetype) == (status, "text/plain")
    assert text in response.text
    assert hub.histories == {}
    assert sum(hub.metrics.wires_refused.values()) == 1


def test_event_is_published_and_the_response_is_an_empty_object(client: FlaskClient, hub: SmallHub) -> None:
    response = post(client, GOOD)
    assert (response.status_code, response.json) == (200, {})
    (publication,) = hub.histories["orders:42"]
    assert (publication.event, publication.data_json) == ("updated", b'{"id":42}')
    assert hub.metrics.wires_published == {"pusher": 1}


def test_same_event_twice_in_a_second_is_published_twice(client: FlaskClient, hub: SmallHub) -> None:
    assert [post(client, GOOD).status_code for _ in range(2)] == [200, 200]
    assert len(hub.histories["orders:42"]) == 2


def test_several_channels_and_batches_are_published(client: FlaskClient, hub: SmallHub) -> None:
    assert post(client, {"name": "a", "channels": ["x", "orders:1"], "data": "1"}).status_code == 200
    batch = [{"name": "b", "channel": "x", "data": "2"}, {"name": "c", "channel": "orders:1", "data": "3"}]
    assert post(client, {"batch": batch}, "batch_events").json == {}
    assert {name: [publication.data_json for publication in history] for name, history in hub.histories.items()} == {
        "pusher:x": [b"1", b"2"],
        "orders:1": [b"1", b"3"],
    }


@pytest.mark.parametrize(
    ("event", "parameters", "status", "text"),
    [
        (GOOD, {"auth_signature": "0" * 64}, 401, "signature"),
        (GOOD, {"auth_timestamp": "1"}, 401, "signature"),
        (GOOD, {"body_md5": "0" * 32}, 401, "signature"),
        (b"not json", {}, 400, "not JSON"),
        (b'{"name":"a","channel":"orders:1","data":"1","data":"2"}', {}, 400, "twice"),
        (GOOD | {"channel": ""}, {}, 400, "everyone"),
        (GOOD | {"channel": "nowhere:1"}, {}, 400, "no namespace"),
        (GOOD | {"socket_id": "1.2"}, {}, 400, "socket_id"),
        (GOOD | {"data": '"' + "x" * 300 + '"'}, {}, 413, "publication_max_bytes"),
        (b"x" * 5000, {}, 413, "api_body_max_bytes"),
    ],
)
def test_errors_have_pushers_status_and_a_line_of_text(
    client: FlaskClient, hub: SmallHub, event: object, parameters: dict[str, str], status: int, text: str
) -> None:
    assert_rejected(hub, post(client, event, **parameters), status, text)


def test_one_wrong_channel_rejects_the_whole_event(client: FlaskClient, hub: SmallHub) -> None:
    event = {"name": "a", "channels": ["orders:1", "nowhere:1"], "data": "1"}
    assert_rejected(hub, post(client, event), 400, "nowhere")


def test_batch_over_the_limit_is_rejected(client: FlaskClient, hub: SmallHub) -> None:
    assert_rejected(hub, post(client, {"batch": [GOOD] * 4}, "batch_events"), 413, "max_batch")


def test_other_app_and_repeated_parameter_are_rejected(client: FlaskClient, hub: SmallHub) -> None:
    assert_rejected(hub, post(client, GOOD, app=PusherCredentials("43", APP.key, APP.secret)), 401, "app id")
    query = list(signed(b"{}", auth_timestamp=str(int(time.time()))).items())
    response = client.post("/apps/42/events", query_string=[*query, query[0]], data=b"{}")
    assert response.status_code == 401


def test_changed_body_is_rejected(client: FlaskClient, hub: SmallHub) -> None:
    query = signed(json.dumps(GOOD).encode(), auth_timestamp=str(int(time.time())))
    assert_rejected(hub, client.post("/apps/42/events", query_string=query, json=GOOD | {"data": "2"}), 401, "body_md5")


def test_unreachable_broker_is_503(client: FlaskClient, hub: SmallHub) -> None:
    hub.down = True
    assert_rejected(hub, post(client, GOOD), 503, "1 of 1 were not published")


def test_addresses_are_404_without_the_setting() -> None:
    client = create_app(SmallHub(Settings())).test_client()
    assert post(client, GOOD).status_code == 404
