from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from tidings.publishers.memory.store import MemoryStore, open_store

_numbers = count()


@pytest.fixture
def store() -> MemoryStore:
    return open_store(f"memory://emitter{next(_numbers)}")


@pytest.fixture
def url(store: MemoryStore) -> str:
    return f"memory://emitter{next(_numbers) - 1}"


@pytest.fixture
def stored(store: MemoryStore, url: str) -> Callable[[str], list[tuple[str, Any]]]:
    assert open_store(url) is store
    return lambda channel: [
        (publication.event, json.loads(publication.data_json)) for publication in store.stored(channel)
    ]
