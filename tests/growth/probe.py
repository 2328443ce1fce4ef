"""Runs inside the node (`--wsgi growth.probe:app`): how much the node's containers hold."""

from __future__ import annotations

import functools
import gc
import json
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Any

_PATH = "/growth-figures"
# Containers of at least so many entries are listed.
_LARGE = 100
_CACHE = type(functools.lru_cache(lambda: None))


def figures() -> dict[str, Any]:
    """All entries of dicts, sets, lists, deques and caches without a bound; and the types with the most objects."""
    # The node freezes what exists at its start, and the collector does not list containers of plain values.
    gc.unfreeze()
    gc.collect()
    entries, objects, seen = 0, Counter[str](), set[int]()
    largest: list[tuple[int, str]] = []
    tracked = gc.get_objects()
    for tracked_object in tracked:
        objects[type(tracked_object).__qualname__] += 1
        for container in (tracked_object, *gc.get_referents(tracked_object)):
            if (container is tracked_object or not gc.is_tracked(container)) and id(container) not in seen:
                seen.add(id(container))
                size = _size(container)
                entries += size
                if size >= _LARGE:
                    largest.append((size, f"{type(container).__name__} of {_sample(container)}"))
    return {
        "entries": entries,
        "objects": objects.total(),
        "types": dict(objects.most_common(300)),
        "largest": sorted(largest, reverse=True)[:100],
    }


def _sample(container: Any) -> str:
    return repr(next(iter(container), None))[:60]


def _size(container: object) -> int:
    if isinstance(container, _CACHE):
        info = container.cache_info()
        return 0 if info.maxsize is not None else int(info.currsize)
    return len(container) if isinstance(container, dict | set | frozenset | list | deque) else 0


def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Answer everything, as an application on the hub's port does; `_PATH` with the figures."""
    if environ["PATH_INFO"] != _PATH:
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"nothing here"]
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(figures()).encode()]
