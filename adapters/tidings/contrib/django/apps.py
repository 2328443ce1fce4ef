"""The application for `INSTALLED_APPS`, and the check of its settings for `manage.py check`."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.core import checks

from tidings.contrib.django.background import background_jobs, register_celery
from tidings.contrib.django.configured import changes_max, emitter, on_error, tidings_settings
from tidings.errors import BadConfig


class TidingsConfig(AppConfig):  # type: ignore[misc]
    """The Django application `tidings.contrib.django`. It has no tables."""

    name = "tidings.contrib.django"
    label = "tidings"
    verbose_name = "tidings"

    def ready(self) -> None:
        """Register the check of the settings, and the task of background jobs if there is a Celery application."""
        checks.register(_check)
        register_celery()


def _check(**_: Any) -> list[checks.CheckMessage]:
    try:
        emitter()
        on_error()
        changes_max()
        if "BACKGROUND" in tidings_settings():
            background_jobs()
    except (BadConfig, ImportError) as error:
        return [checks.Error(f"settings.TIDINGS: {error}", id="tidings.E001")]
    return []
