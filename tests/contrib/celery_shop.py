"""A Celery application whose emitter connects before the pool starts its processes."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from typing import Any

from celery import Celery, Task, current_app
from celery.exceptions import Ignore, Reject

from tidings import Emitter
from tidings.contrib.celery import Run, push_task_states

PREFIX = os.environ["SHOP_PREFIX"]
app = Celery("shop", broker=os.environ["SHOP_BROKER"], backend=os.environ["SHOP_BROKER"])
app.conf.update(task_default_queue=PREFIX, broker_connection_retry_on_startup=True, worker_prefetch_multiplier=20)
emitter = Emitter(os.environ["SHOP_URL"], prefix=PREFIX, timeout_s=20)
unreachable = Emitter("redis://127.0.0.1:1/0", timeout_s=0.05)
emitter.emit("e", "parent", channel="a:2")


def channel(run: Run) -> str | None:
    return f"user:{run.kwargs['user']}" if "user" in run.kwargs else None


# Twice, as a module that is loaded twice does it, and by the proxy that `current_app` is.
push_task_states(current_app, emitter, channel="tasks:{id}", results=True)
push_task_states(app, emitter, channel="tasks:{id}", results=True)
push_task_states(current_app, emitter, channel="tasks:current", tasks=["shop.ignore"])
push_task_states(app, emitter, channel=channel, tasks="shop.fail")
push_task_states(app, unreachable, channel="tasks:lost", tasks=["shop.alone"])
push_task_states(Celery("other", set_as_current=False), emitter, channel="tasks:other")


@app.task(name="shop.count")
def count(number: int) -> int:
    for part in range(5):
        emitter.emit("e", [number, part], channel="a:1")
    return number


@app.task(name="shop.fail")
def fail(user: str = "") -> None:
    raise ValueError("no such order")


@app.task(name="shop.retry", bind=True)
def retry(self: Any) -> str:
    if self.request.retries == 0:
        raise self.retry(countdown=0, exc=KeyError("busy"))
    return "done"


class SlowReport(Task):
    """Reports a retry only after the next attempt has succeeded."""

    def on_retry(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        history = partial(emitter.history, f"tasks:{task_id}")
        while not any(publication["data"]["state"] == "SUCCESS" for publication in history().publications):
            time.sleep(0.01)


@app.task(name="shop.report_late", bind=True, base=SlowReport)
def report_late(self: Any) -> None:
    if self.request.retries == 0:
        raise self.retry(countdown=0)


@app.task(name="shop.unserializable", ignore_result=True)
def unserializable() -> object:
    return {1, 2}


class OutOfStock(Exception):
    """Pickle refuses it: its arguments are not those of its constructor."""

    def __init__(self, order: int, left: int) -> None:
        super().__init__(f"{left} left of order {order}")


@app.task(name="shop.sell_out")
def sell_out() -> None:
    raise OutOfStock(7, 0)


@app.task(name="shop.alone")
def alone() -> None:
    """Succeed, although its states cannot be published."""


@app.task(name="shop.die")
def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="shop.ignore")
def ignore() -> None:
    raise Ignore


@app.task(name="shop.reject", acks_late=True)
def reject() -> None:
    raise Reject("no such order", requeue=False)


@app.task(name="shop.replace", bind=True)
def replace(self: Any) -> None:
    raise self.replace(count.s(7))


@app.task(name="shop.slow", time_limit=1)
def slow() -> None:
    signal.pause()


@app.task(name="shop.slow_again", bind=True, time_limit=1, acks_late=True, acks_on_timeout=False)
def slow_again(self: Any) -> None:
    if not self.request.delivery_info["redelivered"]:
        signal.pause()
