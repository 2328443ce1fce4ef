"""What separates installations that share one Redis."""

from __future__ import annotations

import pytest

from tidings_hub.config.installation import installation_of


@pytest.mark.parametrize(
    ("broker", "installation"),
    [
        ("redis://10.0.0.5", "database 0, prefix tidings:"),
        ("redis://user:password@localhost:6379/0", "database 0, prefix tidings:"),
        ("redis://localhost?db=3", "database 3, prefix tidings:"),
        ("unix:///run/redis.sock?db=3", "database 3, prefix tidings:"),
        ("redis+sentinel://10.0.0.5,10.0.0.6/main/3", "database 3, prefix tidings:"),
        ("redis+sentinel://10.0.0.5/main", "database 0, prefix tidings:"),
        ("redis+cluster://10.0.0.5?buckets=8", "8 buckets, prefix tidings:"),
        ("memory://", ""),
        ("http://localhost:8000", ""),
    ],
)
def test_nodes_and_service_have_the_same_however_their_urls_are_written(broker: str, installation: str) -> None:
    assert installation_of(broker, "tidings:") == installation


def test_prefixes_are_different_installations() -> None:
    assert installation_of("redis://localhost", "a:") != installation_of("redis://localhost", "b:")
