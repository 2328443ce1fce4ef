"""Counters for an engine that runs without a hub."""

from __future__ import annotations

from tidings_hub.engine.limits import EngineMetrics


class EngineCounters(EngineMetrics):
    """Plain `EngineMetrics`, all zero at first."""

    def __init__(self) -> None:
        self.connections_closed: dict[str, int] = {}
