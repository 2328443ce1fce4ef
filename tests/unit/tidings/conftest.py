from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from tidings.publishers.memory.store import MemoryStore, open_store

_names = count()


@pytest.fixture
def store() -> MemoryStore:
    return open_store(f"memory://emitter{next(_names)}")


@pytest.fixture
def url(store: MemoryStore) -> str:
    return f"memory://emitter{next(_names) - 1}"


@pytest.fixture
def kept(store: MemoryStore, url: str) -> Callable[[str], list[tuple[str, Any]]]:
    assert open_store(url) is store
    return lambda channel: [(one.event, json.loads(one.data_json)) for one in store.stored(channel)]
