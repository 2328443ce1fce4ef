from __future__ import annotations

import pytest

from tidings_hub.brokers.known_epochs import KnownEpochs


@pytest.fixture
def epochs() -> KnownEpochs:
    return KnownEpochs()


def test_last_epochs_of_the_database_are_its_own(epochs: KnownEpochs) -> None:
    for number in range(10):
        epochs.learn(f"e{number}", now_s=0.0)
        epochs.learn(f"e{number}", now_s=0.0)
    assert [number for number in range(11) if epochs.is_own(f"e{number}", now_s=29.9)] == list(range(1, 10))


def test_past_epoch_belongs_to_another_database_after_a_while(epochs: KnownEpochs) -> None:
    epochs.learn("old", now_s=0.0)
    epochs.learn("new", now_s=100.0)
    assert epochs.is_own("old", now_s=129.9)
    assert not epochs.is_own("old", now_s=130.0)
    assert epochs.is_own("new", now_s=1_000.0)
    epochs.learn("old", now_s=1_000.0)
    assert [epoch for epoch in ("old", "new", "") if epochs.is_own(epoch, now_s=1_030.0)] == ["old"]


def test_ruled_out_epoch_is_foreign_for_ten_seconds(epochs: KnownEpochs) -> None:
    assert not epochs.is_foreign("other", now_s=0.0)
    epochs.rule_out("other", now_s=0.0)
    assert epochs.is_foreign("other", now_s=9.9)
    assert not epochs.is_foreign("other", now_s=10.0)
    assert not epochs.is_own("other", now_s=0.0)


def test_epoch_that_the_database_gets_is_no_longer_foreign(epochs: KnownEpochs) -> None:
    epochs.rule_out("swapped", now_s=0.0)
    epochs.learn("swapped", now_s=0.0)
    assert epochs.is_own("swapped", now_s=0.0)
    assert not epochs.is_foreign("swapped", now_s=1.0)


def test_number_of_foreign_epochs_is_bounded(epochs: KnownEpochs) -> None:
    for number in range(70):
        epochs.rule_out(f"e{number}", now_s=0.0)
    assert [number for number in range(70) if epochs.is_foreign(f"e{number}", now_s=1.0)] == list(range(6, 70))
