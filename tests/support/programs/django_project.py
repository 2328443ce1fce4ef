"""The Django project of all tests: Django allows one configuration per process."""

from __future__ import annotations

from pathlib import Path

import django
from django.conf import settings


def configure(folder: Path) -> None:
    """Set the project up once: two databases in `folder`, and only the application tidings.contrib.django."""
    if settings.configured:
        return
    # Files, so that a second connection sees only committed data.
    settings.configure(
        DATABASES={
            name: {"ENGINE": "django.db.backends.sqlite3", "NAME": folder / f"{name}.db"}
            for name in ("default", "other")
        },
        INSTALLED_APPS=["tidings.contrib.django"],
        DEFAULT_AUTO_FIELD="django.db.models.AutoField",
        USE_TZ=True,
        SECRET_KEY="secret",
    )
    django.setup()
