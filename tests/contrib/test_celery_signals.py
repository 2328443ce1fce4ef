"""Task states at the signals of Celery, for what a worker does only if a broker or a backend fails."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery, current_app, signals
from celery.app.trace import trace_task
from celery.backends.cache import CacheBackend

from tidings.contrib.celery import Run, push_task_states
from tidings.contrib.delivery import Collected
from tidings.errors import BadConfig, Internal, TidingsError
from tidings.testing import FakeHub


class LostBackend(CacheBackend):
    """A result backend whose server is away when a result is stored."""

    def __init__(self, app: Celery, **_: Any) -> None:
        super().__init__(app, backend="memory")

    def mark_as_done(self, *_: Any, **__: Any) -> None:
        raise ConnectionError("the result backend is away")


def application(**options: Any) -> tuple[Celery, Any]:
    app = Celery("shop", broker="memory://", set_as_current=False, **({"backend": "cache+memory://"} | options))

    @app.task(name="shop.ship")
    def ship() -> str:
        return "shipped"

    return app, ship


def states(hub: FakeHub, channel: str | None = None) -> list[str]:
    return [publication.data["state"] for publication in hub.pushed(channel)]


def test_task_whose_result_cannot_be_stored_has_not_succeeded() -> None:
    hub = FakeHub()
    app, ship = application(backend=LostBackend)
    push_task_states(app, hub, channel="tasks:{id}")
    with pytest.warns(RuntimeWarning, match="the result backend is away"):
        trace_task(ship, "7", [], {}, {"id": "7"}, app=app)
    assert states(hub) == ["STARTED", "FAILURE"]
    assert hub.pushed()[-1].data["error"] == "ConnectionError"


def test_retry_without_a_reason_is_published() -> None:
    """A worker that cancels its tasks, because it lost the broker, gives no reason."""
    hub = FakeHub()
    app, ship = application()
    push_task_states(app, hub, channel="tasks:{id}")
    ship.push_request(id="7", retries=2)
    replies = signals.task_retry.send(sender=ship, request=ship.request, einfo=None)
    assert [reply for _, reply in replies if reply is not None] == []
    hub.assert_pushed("tasks:7", "task", {"id": "7", "task": "shop.ship", "state": "RETRY", "retries": 2}, times=1)


def test_call_before_there_is_a_current_application_is_for_the_later_one() -> None:
    hub = FakeHub()
    app, ship = application()
    before = current_app._get_current_object()
    push_task_states(current_app, hub, channel="tasks:{id}")
    ship.apply(task_id="1")
    assert states(hub) == []
    app.set_current()
    try:
        ship.apply(task_id="2")
        # From now on this call has the arguments of the first one.
        push_task_states(app, hub, channel="tasks:{id}")
        ship.apply(task_id="3")
    finally:
        before.set_current()
    assert (states(hub, "tasks:2"), states(hub, "tasks:3")) == (["STARTED", "SUCCESS"], ["STARTED", "SUCCESS"])
    # The first call no longer is for this application, so the second one is not a repetition.
    ship.apply(task_id="4")
    assert states(hub, "tasks:4") == ["STARTED", "SUCCESS"]


def test_calls_with_different_arguments_both_publish() -> None:
    hub = FakeHub()
    app, ship = application()
    push_task_states(app, hub, channel="tasks:{id}")
    push_task_states(app, hub, channel="tasks:{task}")
    ship.apply(task_id="1")
    assert (states(hub, "tasks:1"), states(hub, "tasks:shop.ship")) == (["STARTED", "SUCCESS"], ["STARTED", "SUCCESS"])


@pytest.mark.parametrize("template", ["tasks:{name}", "tasks:{}", "tasks:{id", "tasks:{id.hex}"])
def test_template_with_another_field_is_refused_at_the_call(template: str) -> None:
    with pytest.raises(BadConfig, match=r"only \{id\} and \{task\}"):
        push_task_states(application()[0], FakeHub(), channel=template)


def test_channel_function_that_raises_is_reported_and_the_task_succeeds() -> None:
    errors: list[TidingsError] = []

    def on_error(error: TidingsError, _batch: Collected) -> None:
        errors.append(error)

    def channel(run: Run) -> str:
        return f"user:{run.kwargs['user']}"

    app, ship = application()
    push_task_states(app, FakeHub(), channel=channel, on_error=on_error)
    assert ship.apply().get() == "shipped"
    assert [type(error) for error in errors] == [Internal, Internal]
    assert "KeyError" in str(errors[0])
