"""A Flask application with background jobs, for servers and Celery workers that the tests start and kill."""

from __future__ import annotations

import os
import time
from pathlib import Path

from celery import Celery
from flask import Flask, Response, request

from tidings.contrib.background import JobCancelled, job
from tidings.contrib.flask import Tidings

celery = Celery("shop", broker=os.environ["SHOP_BROKER"])
celery.conf.update(
    task_default_queue=os.environ["SHOP_PREFIX"],
    broker_connection_retry_on_startup=True,
    broker_connection_timeout=1,
    broker_transport_options={"socket_connect_timeout": 1},
    task_publish_retry=False,
)
app = Flask(__name__)
app.config.update(
    TIDINGS_URL=os.environ["SHOP_URL"],
    TIDINGS_PREFIX=os.environ["SHOP_PREFIX"],
    TIDINGS_BACKGROUND={
        "URL": os.environ["SHOP_STORE"],
        "LEASE_S": float(os.environ.get("SHOP_LEASE_S", "30")),
        "SHUTDOWN_S": 0.5,
        "PROGRESS_INTERVAL_S": 0.05,
        "THREADS": 2,
        "QUEUE_MAX": 2,
    },
)
push = Tidings(app, user=lambda: request.headers.get("X-User"), celery=celery)


def render() -> Response:
    """Write the process id into a file, and wait for a second file."""
    folder = Path(request.form["folder"])
    (folder / "started").write_text(str(os.getpid()))
    part = 0
    while not (folder / "gate").exists():
        part += 1
        try:
            job.progress(min(part / 100, 0.9), f"part {min(part, 90)}")
        except JobCancelled:
            (folder / "cancelled").touch()
            raise
        time.sleep(0.02)
    if "fail" in request.form:
        raise ValueError("a secret of the log")
    push.emit("rendered", {"by": os.getpid()}, channel="a:1")
    response = Response(f"{request.form['title']} by {os.getpid()}", 201, content_type="text/plain; charset=utf-8")
    response.headers["X-Report"] = "yes"
    return response


@app.get("/")
def index() -> str:
    return str(os.getpid())


app.post("/threads", endpoint="threads")(push.background(render))
app.post("/celery", endpoint="celery")(push.background(executor="celery")(render))
