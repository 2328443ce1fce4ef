"""Emitters and task states in real Celery workers, in every pool, with a real Redis as the broker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from support.processes.hub import environment
from support.processes.redis import RedisProcess
from support.programs.example_programs import PublishedHistory, program_of, run_program
from support.waiting import wait_until

FOLDER = Path(__file__).parent
TASKS = 30


class Worker:
    """A `celery worker` process; `app` sends tasks to it."""

    def __init__(self, published: PublishedHistory, log: Path, pool: str) -> None:
        broker = published.url.replace("/0", "/5")
        self.log = log
        self.app = Celery("shop", broker=broker, backend=broker)
        self.app.conf.task_default_queue = published.prefix
        env = environment() | {"SHOP_URL": published.url, "SHOP_PREFIX": published.prefix, "SHOP_BROKER": broker}
        env["PYTHONPATH"] += os.pathsep + str(FOLDER)
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-W", "ignore", "-m", "celery", "-A", "celery_shop", "worker", "-l", "info"),
                    *("-P", pool, "-c", "4", "--without-gossip", "--without-mingle", "--without-heartbeat"),
                ],
                stdout=out,
                stderr=out,
                env=env,
                cwd=log.parent,
                start_new_session=True,
            )
        wait_until(lambda: " ready." in self.text(), within_s=40, why=lambda: f"the worker is ready: {self.text()}")

    def text(self) -> str:
        """Return the log of the worker."""
        return self.log.read_text()

    def send(self, task: str, *args: object, **options: Any) -> Any:
        """Send one task."""
        return self.app.send_task(f"shop.{task}", args, **options)

    def stop(self) -> None:
        """Kill the worker and its child processes, because a graceful stop takes five seconds."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(timeout=15)
        self.app.close()


def states(published: PublishedHistory, task: Any, channel: str = "") -> list[str]:
    """The states of one task in its own channel, or in another one."""
    data = published.data(channel or f"tasks:{task.id}")
    return [state["state"] for state in data if state["id"] == task.id]


@pytest.mark.parametrize("pool", ["prefork", "gevent", "eventlet", "threads", "solo"])
def test_states_and_publications_arrive_from_every_pool(pool: str, published: PublishedHistory, tmp_path: Path) -> None:
    worker = Worker(published, tmp_path / "worker.log", pool)
    try:
        tasks = [worker.send("count", number) for number in range(TASKS)]
        wait_until(
            lambda: all(len(states(published, task)) == 2 for task in tasks),
            why=lambda: f"two states per task: {worker.text()}",
        )
    finally:
        worker.stop()
    assert all(states(published, task) == ["STARTED", "SUCCESS"] for task in tasks)
    assert sorted(published.data("a:1")) == [[number, part] for number in range(TASKS) for part in range(5)]
    assert published.data("a:2") == ["parent"]
    assert "Traceback" not in worker.text()


@pytest.fixture(scope="module")
def shop(
    shared_redis: RedisProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[PublishedHistory, Worker]]:
    """One worker for all tests of task states."""
    published = PublishedHistory(shared_redis, "test-celery-states:")
    worker = Worker(published, tmp_path_factory.mktemp("celery") / "worker.log", "prefork")
    yield published, worker
    worker.stop()


class TestStates:
    def wait_states(self, shop: Any, task: Any, *expected: str, channel: str = "") -> list[Any]:
        """Wait for these states of a task, in its own channel or in another one. Returns their data."""
        published, worker = shop
        wait_until(
            lambda: states(published, task, channel) == [*expected],
            why=lambda: f"{expected}, not {states(published, task, channel)} {worker.text()}",
        )
        data: list[Any] = published.data(channel or f"tasks:{task.id}")
        return [state for state in data if state["id"] == task.id]

    def assert_ended(self, shop: Any, task: Any, *expected: str) -> None:
        """Check that no state of the task comes after these, once the worker has run as many tasks as it has processes.

        The pool's main process, which reports some states, has handled the end of the task by then.
        """
        for following in [shop[1].send("count", number) for number in range(4)]:
            self.wait_states(shop, following, "STARTED", "SUCCESS")
        assert states(shop[0], task) == [*expected]

    def test_result_is_published(self, shop: Any) -> None:
        task = shop[1].send("count", 7)
        data = self.wait_states(shop, task, "STARTED", "SUCCESS")
        assert data[1] == {"id": task.id, "task": "shop.count", "state": "SUCCESS", "result": 7}
        # The result is available once the state is published.
        assert task.state == "SUCCESS"

    def test_failure_is_published(self, shop: Any) -> None:
        task = shop[1].send("fail", kwargs={"user": "ann"})
        data = self.wait_states(shop, task, "STARTED", "FAILURE")
        assert (data[1]["error"], data[1]["message"]) == ("ValueError", "no such order")
        # Without `results` the message is not published.
        assert self.wait_states(shop, task, "STARTED", "FAILURE", channel="user:ann")[1] == {
            "id": task.id,
            "task": "shop.fail",
            "state": "FAILURE",
            "error": "ValueError",
        }

    def test_failure_that_pickle_refuses_has_its_class(self, shop: Any) -> None:
        task = shop[1].send("sell_out", kwargs={})
        data = self.wait_states(shop, task, "STARTED", "FAILURE")
        assert data[1]["error"] == "OutOfStock"

    def test_channel_function_may_return_none(self, shop: Any) -> None:
        task = shop[1].send("fail")
        self.wait_states(shop, task, "STARTED", "FAILURE")
        self.assert_ended(shop, task, "STARTED", "FAILURE")
        assert states(shop[0], task, "user:ann") == []

    def test_retry_is_published(self, shop: Any) -> None:
        task = shop[1].send("retry")
        wait_until(lambda: len(states(shop[0], task)) == 4, why=lambda: f"{states(shop[0], task)} {shop[1].text()}")
        data = shop[0].data(f"tasks:{task.id}")
        # The next attempt may start before the RETRY is published.
        (retry,) = [state for state in data if state["state"] == "RETRY"]
        assert (retry["error"], retry["retries"]) == ("KeyError", 0)
        others = [state for state in data if state != retry]
        assert [(state["state"], state.get("retries")) for state in others] == [
            *(("STARTED", 0), ("STARTED", 1), ("SUCCESS", None))
        ]
        assert others[2]["result"] == "done"

    def test_retry_that_is_published_late_is_known_by_its_number(self, shop: Any) -> None:
        data = self.wait_states(shop, shop[1].send("report_late"), "STARTED", "STARTED", "SUCCESS", "RETRY")
        assert [state.get("retries") for state in data] == [0, 1, None, 0]

    def test_revocation_is_published(self, shop: Any) -> None:
        self.wait_states(shop, shop[1].send("count", 1, expires=-10), "REVOKED")

    def test_killed_worker_process_is_published_as_failure(self, shop: Any) -> None:
        data = self.wait_states(shop, shop[1].send("die"), "STARTED", "FAILURE")
        assert data[1]["error"] == "WorkerLostError"

    def test_time_limit_is_published_once(self, shop: Any) -> None:
        task = shop[1].send("slow")
        data = self.wait_states(shop, task, "STARTED", "FAILURE")
        assert data[1]["error"] == "TimeLimitExceeded"
        self.assert_ended(shop, task, "STARTED", "FAILURE")

    def test_time_limit_of_a_task_that_is_delivered_again_is_published(self, shop: Any) -> None:
        self.wait_states(shop, shop[1].send("slow_again"), "STARTED", "FAILURE", "STARTED", "SUCCESS")

    @pytest.mark.parametrize(("task", "state"), [("ignore", "IGNORED"), ("reject", "REJECTED")])
    def test_task_that_is_ignored_or_rejected_has_an_end(self, task: str, state: str, shop: Any) -> None:
        sent = shop[1].send(task)
        self.wait_states(shop, sent, "STARTED", state)
        self.assert_ended(shop, sent, "STARTED", state)

    def test_application_may_be_the_current_one(self, shop: Any) -> None:
        self.wait_states(shop, shop[1].send("ignore"), "STARTED", "IGNORED", channel="tasks:current")

    def test_task_that_replaces_itself_ends_with_the_other_task(self, shop: Any) -> None:
        task = shop[1].send("replace")
        data = self.wait_states(shop, task, "STARTED", "STARTED", "SUCCESS")
        assert [state["task"] for state in data] == ["shop.replace", "shop.count", "shop.count"]
        self.assert_ended(shop, task, "STARTED", "STARTED", "SUCCESS")

    def test_result_that_is_not_json_is_left_out(self, shop: Any) -> None:
        data = self.wait_states(shop, shop[1].send("unserializable"), "STARTED", "SUCCESS")
        assert "result" not in data[1]
        assert "data.result" in shop[1].text()

    def test_unreachable_broker_does_not_fail_the_task(self, shop: Any) -> None:
        task = shop[1].send("alone")
        self.wait_states(shop, task, "STARTED", "SUCCESS")
        wait_until(lambda: shop[1].text().count("not published to tasks:lost") == 2, why="both failures are logged")
        assert task.state == "SUCCESS"

    def test_tasks_of_another_application_are_not_published(self, shop: Any) -> None:
        assert shop[0].data("tasks:other") == []


def test_program_of_the_page_works(published_by_default: PublishedHistory, tmp_path: Path) -> None:
    run = "\nprint(count.apply(task_id='7').get())"
    broker = published_by_default.url.replace("/0", "/5")
    program = program_of("celery.md") + run
    assert run_program(program, published_by_default.url, tmp_path, BROKER_URL=broker) == "3\n"
    publications = published_by_default.data("tasks:7")
    assert [data.get("state", data.get("number")) for data in publications] == ["STARTED", 0, 1, 2, "SUCCESS"]
