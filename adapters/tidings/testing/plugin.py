"""The pytest plugin: fixtures `tidings_fake` and `tidings_hub`. The hub starts with the first test that uses it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tidings.testing import FakeHub, HubProcess


@pytest.fixture
def tidings_fake() -> Iterator[FakeHub]:
    """A fake hub that records publications; a new one for each test."""
    from tidings.testing import FakeHub

    with FakeHub() as fake:
        yield fake


@pytest.fixture(scope="session")
def tidings_hub_flags() -> Sequence[str]:
    """Flags of `tidings serve` for `tidings_hub`. Define a fixture of this name to set them."""
    return ()


@pytest.fixture(scope="session")
def tidings_hub(tidings_hub_flags: Sequence[str]) -> Iterator[HubProcess]:
    """A real hub for all tests of a run, started with the first test that uses it."""
    from tidings.testing import HubProcess

    with HubProcess(*tidings_hub_flags) as hub:
        yield hub
