"""`BackgroundJobs` from a framework's settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

from tidings.contrib.background.bounds import JobBounds
from tidings.contrib.background.jobs import BackgroundJobs
from tidings.contrib.background.open_store import open_store
from tidings.contrib.delivery import OnError
from tidings.emitter import Emitter
from tidings.errors import BadConfig
from tidings.options import DEFAULT_PREFIX, read_environment

PATH = "/tidings/jobs"
Executor = Literal["threads", "celery"]
_REDIS = ("redis", "unix")


def jobs_of(
    settings: Mapping[str, Any], emitter_settings: Mapping[str, Any], emitter: Callable[[], Emitter], on_error: OnError
) -> BackgroundJobs:
    """The jobs for the setting `BACKGROUND`: `URL` of the store, and the bounds in capitals.

    Without `URL` the store is the emitter's own Redis, under its prefix.

    Raises:
        BadConfig: an unknown or invalid setting, or no `URL` where the emitter has no Redis.
    """
    own_url = emitter_settings.get("URL") or read_environment(None)[0]
    url = settings.get("URL") or own_url
    if not isinstance(url, str) or (url == own_url and not url.startswith(_REDIS)):
        raise BadConfig(
            "background jobs need a store: set URL in the setting BACKGROUND (Flask: TIDINGS_BACKGROUND) to a redis:// "
            "URL, or to a database (docs/background-jobs.md#where-the-state-is)"
        )
    bounds = JobBounds.of({name: value for name, value in settings.items() if name != "URL"}, "BACKGROUND")
    store = open_store(url, bounds, prefix=emitter_settings.get("PREFIX") or DEFAULT_PREFIX)
    return BackgroundJobs(store, bounds, emitter, on_error)


def check_executor(executor: object) -> None:
    """Check the option `executor`.

    Raises:
        BadConfig: there is no such executor.
    """
    if executor not in get_args(Executor):
        raise BadConfig(f"executor={executor!a:.40}; there are {' and '.join(get_args(Executor))}")


def user_text(user: object) -> str | None:
    """What a function `user` returned, as the text that its channel has. None and "" are no user."""
    return None if user is None or user == "" else str(user)


NO_USER = (
    "background jobs belong to users: pass a function that returns the id of the signed-in user, or None "
    "(docs/background-jobs.md)"
)
NO_CELERY = 'executor="celery" needs the Celery application: pass celery=… to Tidings'
