"""Jobs as Celery tasks. Celery is not imported: the application passes its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakSet

from tidings.contrib.background.jobs import SendTask
from tidings.errors import BadConfig

TASK = "tidings.background"
_registered: WeakSet[Any] = WeakSet()


def register_task(celery: Any, run: Callable[[str, str], None]) -> SendTask:
    """Register the task on a Celery application. Returns the function that sends it.

    The message has the id of the job, no more: the store has the request. A task that Celery delivers twice runs once.

    Raises:
        BadConfig: not a Celery application, or one that already has this task.
    """
    if not callable(getattr(celery, "task", None)):
        raise BadConfig(f"celery must be a Celery application, not a {type(celery).__name__}")
    resolve = getattr(celery, "_get_current_object", None)
    app = celery if resolve is None else resolve()
    if app in _registered:
        raise BadConfig("this Celery application already runs the background jobs of another Tidings")
    _registered.add(app)

    def run_job(job_id: str, owner: str) -> None:
        run(job_id, owner)

    task = app.task(name=TASK, ignore_result=True, shared=False)(run_job)

    def send(job_id: str, owner: str) -> None:
        task.apply_async((job_id, owner))

    return send
