"""`push_task_states`: publish when a Celery task starts and how it ends.

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
from celery.exceptions import Ignore, Reject, TimeLimitExceeded

from tidings.contrib.delivery import OnError, after_work, check_on_error, deliver, log_error
from tidings.emitter import Emitter
from tidings.errors import BadConfig, BadData, TooLarge

EVENT = "task"
# What `Task.replace` raises after it has sent the task that continues under the same id.
_REPLACED = Ignore("Replaced by new task").args


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
    tasks: str | Collection[str] | None = None,
    results: bool = False,
    on_error: OnError = log_error,
) -> None:
    """Publish the event `task` whenever a task of `app` changes its state in this worker.

    `app` may be `celery.current_app`. A second call with the same arguments has no effect.

    Data: `{"id": str, "task": str, "state": str}`. The states are STARTED, SUCCESS, FAILURE, RETRY, REVOKED, IGNORED
    and REJECTED. FAILURE and RETRY also have `"error"`, the exception's class. A result backend has stored these states
    by then, except IGNORED and REJECTED, which it does not store. STARTED and RETRY have `"retries": int`, the number
    of earlier attempts. A RETRY may come after the STARTED of the next attempt, since Celery sends the next attempt's
    message before it reports the RETRY.
    `channel`: a template of `{id}` and `{task}`, or a function of the `Run`. `tasks`: only those of these names.
    `results`: also publish the return value as `result` and an exception's text as `message`, to every subscriber.

    If the push fails, the task still succeeds. The error is passed to `on_error` (see `delivery`); if that raises,
    Celery logs it. While the hub is unreachable, each task takes longer by twice the emitter's `timeout_s`.

    Raises:
        BadConfig: `channel` is a template with other fields than `{id}` and `{task}`, or `on_error` is no function.
    """
    check_on_error(on_error)
    _States(app, emitter, channel, tasks, results=results, on_error=on_error).connect()


# The receivers of all calls, in order.
_registered: list[_States] = []


class _States:
    """The receivers of one `push_task_states`."""

    def __init__(
        self,
        app: Celery,
        emitter: Emitter,
        channel: Where,
        tasks: str | Collection[str] | None,
        *,
        results: bool,
        on_error: OnError,
    ) -> None:
        self._app = app
        self._emitter = emitter
        self._channel = channel
        self._tasks = None if tasks is None else frozenset([tasks] if isinstance(tasks, str) else tasks)
        self._results = results
        self._on_error = on_error
        # The last task whose time limit `Request.on_failure` has reported.
        self._timed_out: str | None = None
        if isinstance(channel, str):
            _expand(channel, Run("id", "task", (), {}))

    def connect(self) -> None:
        _registered.append(self)
        # Not weak: there are no other references to these methods.
        for signal, receiver in (
            (signals.task_prerun, self._started),
            (signals.task_success, self._succeeded),
            (signals.task_postrun, self._finished),
            (signals.task_failure, self._failed),
            (signals.task_retry, self._retried),
            (signals.task_revoked, self._revoked),
        ):
            signal.connect(receiver, weak=False)

    def _started(self, sender: Any, *, task_id: str, args: Any, kwargs: Any, **_: Any) -> None:
        details = {"retries": sender.request.retries}
        self._push(sender, Run(task_id, sender.name, args, kwargs), "STARTED", details)

    def _succeeded(self, sender: Any, *, result: Any, **_: Any) -> None:
        self._push(sender, _run(sender, sender.request), "SUCCESS", {"result": result} if self._results else {})

    def _finished(
        self, sender: Any, *, task_id: str, args: Any, kwargs: Any, retval: Any, state: str, **_: Any
    ) -> None:
        # All other states have signals of their own. A task that replaced itself has not ended.
        is_replaced = isinstance(retval, Ignore) and retval.args == _REPLACED
        if state in ("IGNORED", "REJECTED") and not is_replaced:
            self._push(sender, Run(task_id, sender.name, args, kwargs), state)

    def _failed(
        self, sender: Any, *, task_id: str, exception: Any, args: Any, kwargs: Any, traceback: Any = None, **_: Any
    ) -> None:
        # Celery 5.7 and newer report a rejected task here as well.
        if isinstance(exception, Reject) or self._is_repeated(task_id, exception, traceback):
            return
        self._push(sender, Run(task_id, sender.name, args or (), kwargs or {}), "FAILURE", self._error(exception))

    def _is_repeated(self, task_id: str, exception: object, traceback: object) -> bool:
        """Whether this signal is the second one of the same hard time limit.

        The pool `prefork` calls `Request.on_failure`, which passes the traceback as text, and then
        `Request.on_timeout`, which signals as well since Celery 5.6. For a task that is delivered again
        (`acks_on_timeout=False`), and in the pool `gevent`, only the second signals.
        """
        if not isinstance(exception, TimeLimitExceeded):
            return False
        before, self._timed_out = self._timed_out, task_id if isinstance(traceback, str) else None
        return self._timed_out is None and before == task_id

    def _retried(self, sender: Any, *, request: Any, reason: Any = None, **_: Any) -> None:
        # There is no reason if a worker cancels its tasks because it lost the broker.
        cause = getattr(reason, "exc", None) or reason
        details = {} if cause is None else self._error(cause)
        self._push(sender, _run(sender, request), "RETRY", {"retries": request.retries, **details})

    def _revoked(self, sender: Any, *, request: Any, **_: Any) -> None:
        self._push(sender, _run(sender, request), "REVOKED")

    def _error(self, exception: object) -> dict[str, object]:
        details = {"message": str(exception)} if self._results else {}
        # Celery wraps an exception that pickle refuses, such as one whose constructor takes two arguments.
        return {"error": getattr(exception, "exc_cls_name", type(exception).__name__), **details}

    def _is_for(self, task: Any) -> bool:
        """Whether this call is for the task, and no earlier one with the same arguments.

        It is decided at the event, because `current_app` may lead elsewhere before.
        """
        if _application(task.app) is not _application(self._app):
            return False
        if self._tasks is not None and task.name not in self._tasks:
            return False
        return next(other for other in _registered if other.key() == self.key()) is self

    def key(self) -> tuple[object, ...]:
        """What two calls with the same effect have in common."""
        application = id(_application(self._app))
        return application, id(self._emitter), self._channel, self._tasks, self._results, self._on_error

    def _push(self, task: Any, run: Run, state: str, details: Mapping[str, object] | None = None) -> None:
        if not self._is_for(task):
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
        except Exception as error:  # noqa: BLE001
            self._on_error(after_work(error), batch)
        else:
            deliver(batch, self._on_error)

    def _channels(self, run: Run) -> list[str]:
        if isinstance(self._channel, str):
            return [_expand(self._channel, run)]
        channels = self._channel(run) or ()
        return [channels] if isinstance(channels, str) else list(channels)


def _application(app: Any) -> object:
    """The application itself, if `app` is a proxy of it, as `celery.current_app` is."""
    resolve = getattr(app, "_get_current_object", None)
    return app if resolve is None else resolve()


def _expand(template: str, run: Run) -> str:
    try:
        return template.format(id=run.id, task=run.task)
    except (LookupError, ValueError, AttributeError) as error:
        raise BadConfig(f"channel={template!r} of push_task_states: only {{id}} and {{task}} are replaced") from error


def _run(task: Any, request: Any) -> Run:
    return Run(request.id, task.name, request.args or (), request.kwargs or {})
