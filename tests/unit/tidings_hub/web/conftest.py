from __future__ import annotations

from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient
from pydantic import SecretStr

from support.direct_first import create_direct_app
from support.small_hub import API_KEY, OLD_API_KEY, SmallHub
from tidings_hub.config.security import Namespace
from tidings_hub.config.settings import Settings
from tidings_hub.services.api import NodeApi
from tidings_hub.web.app import create_app


@pytest.fixture
def hub() -> SmallHub:
    return SmallHub(
        Settings(
            api_keys=(SecretStr(API_KEY), SecretStr(OLD_API_KEY)),
            namespaces={"orders": Namespace(), "demo": Namespace()},
            max_batch=5,
            api_body_max_bytes=4096,
            publication_max_bytes=1024,
            history_page_max=3,
        )
    )


@pytest.fixture(params=[create_app, create_direct_app], ids=["flask", "direct"])
def make_app(request: pytest.FixtureRequest) -> Callable[[NodeApi], Flask]:
    """Both ways of a request through the web layer."""
    make: Callable[[NodeApi], Flask] = request.param
    return make


@pytest.fixture
def client(hub: SmallHub, make_app: Callable[[NodeApi], Flask]) -> FlaskClient:
    """A client that sends a valid key."""
    client = make_app(hub).test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {API_KEY}"
    return client


@pytest.fixture
def anonymous(hub: SmallHub, make_app: Callable[[NodeApi], Flask]) -> FlaskClient:
    """A client that sends no key."""
    return make_app(hub).test_client()


@pytest.fixture
def dev(make_app: Callable[[NodeApi], Flask]) -> FlaskClient:
    """A client of a hub with `--dev` and without keys."""
    return make_app(SmallHub(Settings(dev=True))).test_client()
