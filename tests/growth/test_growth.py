"""The short form of `make growth`: nothing grows with what a client does (SECURITY.md)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from growth.attacks import ATTACKS, flood
from growth.bounds import grown, history_problems, violations
from growth.target import PUBLISH_BURST_BYTES, Figures, Target
from support.waiting import wait_until

_ACTS = 200


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Target]:
    target = Target(tmp_path, brief=True)
    yield target
    target.close()


def settled(target: Target) -> Figures:
    """The figures once two in a row are alike."""
    figures = [target.figures()]

    def is_stable() -> bool:
        figures.append(target.figures())
        return abs(figures[-1].entries - figures[-2].entries) < 50

    wait_until(is_stable, within_s=60.0, why="the node has come to rest")
    return figures[-1]


def test_history_of_a_user_who_publishes_much_is_bounded(tmp_path: Path) -> None:
    target = Target(tmp_path, brief=False)
    try:
        flood(target.hub.port, 300)
        figures = target.figures()
        refused = target.hub.metric("tidings_publish_bytes_refused_total")
    finally:
        target.close()
    assert history_problems(figures) == []
    assert figures.history_bytes > PUBLISH_BURST_BYTES // 2
    assert refused > 0


@pytest.mark.timeout(300)
def test_nothing_grows_with_the_acts_of_clients(target: Target) -> None:
    """Each attack twice more than at first. What is left after a while must not depend on the number of acts."""
    for attack in ATTACKS:
        attack(target.hub.port, _ACTS)
    before = settled(target)
    for attack in ATTACKS:
        for _ in range(2):
            attack(target.hub.port, _ACTS)
    left: list[str] = []

    def is_over() -> bool:
        now = target.figures()
        # One attack that leaves one entry in two acts is found.
        left[:] = violations(target, before, now, acts=2 * _ACTS)
        if left:
            left.append(str(grown(before, now)))
        return not left

    try:
        wait_until(is_over, within_s=60.0)
    except AssertionError:
        raise AssertionError(f"left after {2 * _ACTS} acts of each kind: {left}") from None
