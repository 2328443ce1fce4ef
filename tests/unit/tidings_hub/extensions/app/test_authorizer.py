"""What handlers of an app may return, and what becomes of anything else."""

from __future__ import annotations

from typing import Any

import pytest

from tidings.errors import Forbidden, Internal
from tidings.tokens import Claims
from tidings_hub.core.sessions import Session
from tidings_hub.extensions.app.app import App
from tidings_hub.extensions.app.authorizer import AppAuthorizer
from tidings_hub.extensions.app.ordered_pool import OrderedPool
from tidings_hub.extensions.app.runner import HandlerRunner
from tidings_hub.metrics import Metrics


def authorizer(app: App) -> tuple[AppAuthorizer, Metrics]:
    metrics = Metrics()
    return AppAuthorizer(app, HandlerRunner(metrics, timeout_s=30), OrderedPool(1, 1), metrics), metrics


def session() -> Session[Any]:
    return Session("id", object(), Claims(sub="ann"), 0.0)


@pytest.mark.parametrize("result", [["a:1", "a:2"], ("a:1", "a:2"), {"a:1": 1, "a:2": 2}, "generator", None, []])
def test_channels_that_on_connect_returns_are_granted(result: object) -> None:
    app = App()
    app.on_connect(lambda _: (f"a:{number}" for number in (1, 2)) if result == "generator" else result)
    assert list(authorizer(app)[0].connect(session())) == (["a:1", "a:2"] if result else [])


@pytest.mark.parametrize("result", ["a:1", 5, [1], [None], (1 / 0 for _ in "a")])
def test_another_result_of_on_connect_is_a_failure_of_the_handler(
    result: object, caplog: pytest.LogCaptureFixture
) -> None:
    app = App()
    app.on_connect(lambda _: result)
    consulted, metrics = authorizer(app)
    with pytest.raises(Internal):
        consulted.connect(session())
    assert metrics.app_errors == {"on_connect": 1}
    assert [record.getMessage() for record in caplog.records] == ["the handler of on_connect failed"]
    assert caplog.records[0].exc_info


@pytest.mark.parametrize("result", [False, None, 0, "", "denied", 1, object()])
def test_only_true_authorizes(result: object, caplog: pytest.LogCaptureFixture) -> None:
    app = App()
    app.authorize(lambda *_: result)
    consulted, metrics = authorizer(app)
    with pytest.raises(Forbidden):
        consulted.publish(session(), "a:1", "x", 1)
    assert isinstance(consulted.subscribe(session(), ["a:1"])["a:1"], Forbidden)
    # What looks like a mistake is in the log, once a minute.
    lines = [record.getMessage() for record in caplog.records]
    expected = f"the handler of authorize returned a value of type {type(result).__name__}; return True or False"
    assert lines == ([expected] if result else [])
    assert metrics.app_errors == ({"authorize": 2} if result else {})


def test_true_authorizes() -> None:
    app = App()
    app.authorize(lambda *_: True)
    consulted, _ = authorizer(app)
    consulted.publish(session(), "a:1", "x", 1)
    assert consulted.subscribe(session(), ["a:1"]) == {}
