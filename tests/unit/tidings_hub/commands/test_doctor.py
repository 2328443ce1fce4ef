"""What the doctor reports of a node that is ready and yet not as it should be."""

from __future__ import annotations

import pytest

from tidings_hub.commands.doctor import _check_broker, _Checklist


@pytest.mark.parametrize(
    ("checks", "text"),
    [
        ({"advertise": "nothing accepts connections at 10.0.0.5:8000"}, "nothing accepts connections at 10.0.0.5:8000"),
        ({"eviction": "allkeys-lru"}, "maxmemory-policy allkeys-lru"),
        ({"parts": {"bucket 1": "refused", "bucket 2": "served"}}, "bucket 1 of the cluster is not served"),
    ],
)
def test_what_is_wrong_although_the_node_is_ready_fails(
    capsys: pytest.CaptureFixture[str], checks: dict[str, object], text: str
) -> None:
    _check_broker({"checks": checks}, _Checklist())
    assert text in capsys.readouterr().out


def test_nothing_is_reported_of_a_healthy_node(capsys: pytest.CaptureFixture[str]) -> None:
    _check_broker({"checks": {"parts": {"bucket 1": "served"}}}, _Checklist())
    assert capsys.readouterr().out == ""
