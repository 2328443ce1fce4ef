"""Models of applications as publications: which classes are pushed, to which channels, with which fields."""

from __future__ import annotations

from tidings.models.describe import ModelOptions, Op, describe
from tidings.models.rules import SHARED, Channels, Registry, Rule, Version, register

__all__ = ["SHARED", "Channels", "ModelOptions", "Op", "Registry", "Rule", "Version", "describe", "register"]
