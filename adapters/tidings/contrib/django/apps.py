"""The application of `INSTALLED_APPS`, and what `manage.py check` says of its settings."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.core import checks

from tidings.contrib.django.configured import emitter, on_error
from tidings.errors import BadConfig


class TidingsConfig(AppConfig):  # type: ignore[misc]
    """`tidings.contrib.django`; it has no tables."""

    name = "tidings.contrib.django"
    label = "tidings"
    verbose_name = "tidings"

    def ready(self) -> None:
        """Check the settings with all the others."""
        checks.register(_check)


def _check(**_: Any) -> list[checks.CheckMessage]:
    try:
        emitter()
        on_error()
    except (BadConfig, ImportError) as error:
        return [checks.Error(f"settings.TIDINGS: {error}", id="tidings.E001")]
    return []
