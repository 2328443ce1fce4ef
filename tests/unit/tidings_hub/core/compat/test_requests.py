from __future__ import annotations

from tidings.wire.publication import decode
from tidings_hub.core.compat.requests import PublishRequest


def test_the_body_is_a_publication() -> None:
    body = PublishRequest(("orders:1",), "updated", b'{"id":1}').body(id="a1", at_ms=7)
    publication = decode("orders:1", b"t1 2 1 e " + body, max_bytes=1000)
    assert (publication.event, publication.data_json, publication.id, publication.at_ms) == (
        "updated",
        b'{"id":1}',
        "a1",
        7,
    )
