"""Kubernetes' variables for Services called `tidings` and `tidings-…`."""

from __future__ import annotations

import pytest

from tidings.errors import BadConfig
from tidings_hub.config.load import load
from tidings_hub.config.service_links import service_links

LINKS = {
    "TIDINGS_SERVICE_HOST": "10.0.0.11",
    "TIDINGS_SERVICE_PORT": "8000",
    "TIDINGS_SERVICE_PORT_HTTP": "8000",
    "TIDINGS_PORT": "tcp://10.0.0.11:8000",
    "TIDINGS_PORT_8000_TCP": "tcp://10.0.0.11:8000",
    "TIDINGS_PORT_8000_TCP_PROTO": "tcp",
    "TIDINGS_PORT_8000_TCP_PORT": "8000",
    "TIDINGS_PORT_8000_TCP_ADDR": "10.0.0.11",
    "TIDINGS_REDIS_SERVICE_HOST": "10.0.0.12",
    "TIDINGS_REDIS_SERVICE_PORT": "6379",
    "TIDINGS_REDIS_PORT": "tcp://10.0.0.12:6379",
    "TIDINGS_REDIS_PORT_6379_TCP_ADDR": "10.0.0.12",
}


def test_links_are_no_settings() -> None:
    loaded = load(env=LINKS | {"TIDINGS_WORKERS": "2"})
    assert loaded.origin == {"workers": "environment"}
    assert loaded.settings.port == 8000
    assert service_links(LINKS | {"HOME": "/root"}, start="TIDINGS_") == set(LINKS)


def test_port_of_the_pod_replaces_the_link() -> None:
    assert load(env=LINKS | {"TIDINGS_PORT": "9000"}).settings.port == 9000


@pytest.mark.parametrize(
    "env",
    [
        {"TIDINGS_SERVICE_PORT": "8000"},
        {"TIDINGS_PORT": "tcp://10.0.0.11:8000"},
        LINKS | {"TIDINGS_PRT": "8000"},
        LINKS | {"TIDINGS_REDIS_HOST": "x"},
        LINKS | {"TIDINGS_PORT": "http"},
    ],
)
def test_other_variables_are_still_rejected(env: dict[str, str]) -> None:
    with pytest.raises(BadConfig):
        load(env=env)
