"""Limits of broker and engine for tests: those of `Settings(dev=True)`, with changes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tidings_hub.brokers.base import BrokerLimits
from tidings_hub.config.settings import Settings
from tidings_hub.engine.limits import EngineLimits, EngineOptions
from tidings_hub.node import limits


def broker_limits(**changes: Any) -> BrokerLimits:
    """The limits of a broker of a node with default settings, with `changes`."""
    return replace(limits.broker_limits(Settings(dev=True)), **changes)


def engine_limits(**changes: Any) -> EngineLimits:
    """The limits of the engine of a node with default settings, with `changes`."""
    return replace(limits.engine_limits(Settings(dev=True)), **changes)


def engine_options(**changes: Any) -> EngineOptions:
    """The options of each mounted path of a node with default settings, with `changes`."""
    return replace(limits.engine_options(Settings(dev=True)), **changes)
