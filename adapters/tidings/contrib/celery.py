"""`push_task_states`: publish when a Celery task starts, succeeds, fails, is retried or is revoked.

    app = Celery("shop", broker="redis://localhost:6379/1")
    push_task_states(app, Emitter("redis://localhost:6379/0"), channel="tasks:{id}")

One emitter per module works in all of Celery's pools: see docs/celery.md.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from celery import Celery, signals

from tidings.contrib.delivery import OnError, deliver, log_error
from tidings.emitter import Emitter
from tidings.errors import BadData, TidingsError, TooLarge

EVENT = "task"


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a task: its id, the task's name and its arguments."""

    id: str
    task: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]


# The channels of a task's states: a template such as "tasks:{id}", or a function. None or no channel: not published.
Where = str | Callable[[Run], str | Iterable[str] | None]


def push_task_states(
    app: Celery,
    emitter: Emitter,
    *,
    channel: Where,
    tasks: Collection[str] | None = None,
    results: bool = False,
    on_error: OnError = log_error,
) -> None:
    """Publish the event `task` whenever a task of `app` changes its state in this worker.

    Data: `{"id": str, "task": str, "state": "STARTED" | "SUCCESS" | "FAILURE" | "RETRY" | "REVOKED"}`, and for FAILURE
    and RETRY `"error"`, the exception's class. A result backend has stored the state by then.
    `channel`: a template of `{id}` and `{task}`, or a function of the `Run`. `tasks`: only those of these names.
    `results`: also publish the return value as `result` and an exception's text as `message`, to every subscriber.

    If the push fails, the task still succeeds. The error is passed to `on_error` (see `delivery`); if that raises,
    Celery logs it. While the hub is unreachable, each task takes longer by twice the emitter's `timeout_s`.
    """
    _States(app, emitter, channel, tasks, results=results, on_error=on_error).connect()


class _States:
    """The receivers of one `push_task_states`."""

    def __init__(
        self,
        app: Celery,
        emitter: Emitter,
        channel: Where,
        tasks: Collection[str] | None,
        *,
        results: bool,
        on_error: OnError,
    ) -> None:
        self._app = app
        self._emitter = emitter
        self._channel = channel
        self._tasks = None if tasks is None else frozenset(tasks)
        self._results = results
        self._on_error = on_error

    def connect(self) -> None:
        # Not weak: there are no other references to these methods.
        for signal, receiver in (
            (signals.task_prerun, self._started),
            (signals.task_postrun, self._finished),
            (signals.task_failure, self._failed),
            (signals.task_retry, self._retried),
            (signals.task_revoked, self._revoked),
        ):
            signal.connect(receiver, weak=False)

    def _started(self, sender: Any, *, task_id: str, args: Any, kwargs: Any, **_: Any) -> None:
        self._push(sender, Run(task_id, sender.name, args, kwargs), "STARTED")

    def _finished(
        self, sender: Any, *, task_id: str, args: Any, kwargs: Any, retval: Any, state: str, **_: Any
    ) -> None:
        # The other states have their own signals. For a killed task Celery does not send this one.
        if state == "SUCCESS":
            details = {"result": retval} if self._results else {}
            self._push(sender, Run(task_id, sender.name, args, kwargs), state, details)

    def _failed(self, sender: Any, *, task_id: str, exception: Any, args: Any, kwargs: Any, **_: Any) -> None:
        self._push(sender, Run(task_id, sender.name, args or (), kwargs or {}), "FAILURE", self._error(exception))

    def _retried(self, sender: Any, *, request: Any, reason: Any, **_: Any) -> None:
        cause = getattr(reason, "exc", None) or reason
        self._push(sender, _run(sender, request), "RETRY", self._error(cause))

    def _revoked(self, sender: Any, *, request: Any, **_: Any) -> None:
        self._push(sender, _run(sender, request), "REVOKED")

    def _error(self, exception: object) -> dict[str, object]:
        details = {"message": str(exception)} if self._results else {}
        return {"error": type(exception).__name__, **details}

    def _push(self, task: Any, run: Run, state: str, details: Mapping[str, object] | None = None) -> None:
        if task.app is not self._app or (self._tasks is not None and run.task not in self._tasks):
            return
        data = {"id": run.id, "task": run.task, "state": state}
        batch = self._emitter.batch().begin()
        try:
            channels = self._channels(run)
            if not channels:
                return
            emit = partial(batch.emit, EVENT, channels=channels)
            try:
                emit({**data, **(details or {})})
            except (BadData, TooLarge) as error:
                # Publish the state without the result that JSON cannot represent.
                self._on_error(error, batch)
                emit(data)
        except TidingsError as error:
            self._on_error(error, batch)
        else:
            deliver(batch, self._on_error)

    def _channels(self, run: Run) -> list[str]:
        if isinstance(self._channel, str):
            return [self._channel.format(id=run.id, task=run.task)]
        channels = self._channel(run) or ()
        return [channels] if isinstance(channels, str) else list(channels)


def _run(task: Any, request: Any) -> Run:
    return Run(request.id, task.name, request.args or (), request.kwargs or {})
