"""Limits of broker and engine for tests: those of `Settings(dev=True)`, with changes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tidings_hub.brokers.base import BrokerLimits
from tidings_hub.config.settings import Settings
from tidings_hub.engine.limits import EngineLimits, EngineOptions
from tidings_hub.node import limits


def broker_limits(**changes: Any) -> BrokerLimits:
    """What a node with default settings gives to its broker, with `changes`."""
    return replace(limits.broker_limits(Settings(dev=True)), **changes)


def engine_limits(**changes: Any) -> EngineLimits:
    """What a node with default settings gives to its engine, with `changes`."""
    return replace(limits.engine_limits(Settings(dev=True)), **changes)


def engine_options(**changes: Any) -> EngineOptions:
    """What a node with default settings gives to each mounted path, with `changes`."""
    return replace(limits.engine_options(Settings(dev=True)), **changes)
