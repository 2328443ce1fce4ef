from __future__ import annotations

import os
import threading
from queue import SimpleQueue

import pytest

from support.waiting import wait_until
from tidings.contrib.background import thread_pool
from tidings.contrib.background.thread_pool import ThreadPool


def test_no_more_threads_than_allowed_run_at_once() -> None:
    pool, gate, done = ThreadPool(3), threading.Event(), SimpleQueue[str]()

    def call() -> None:
        gate.wait()
        done.put(threading.current_thread().name + str(threading.get_ident()))

    for _ in range(10):
        pool.submit(call)
    wait_until(lambda: pool._busy == 3, why="three calls run")
    gate.set()
    assert len({done.get(timeout=10) for _ in range(10)}) == 3


def test_threads_end_without_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread_pool, "IDLE_S", 0.01)
    pool, done = ThreadPool(2), threading.Event()
    pool.submit(done.set)
    assert done.wait(10)
    wait_until(lambda: pool._threads == 0, why="the thread ends")
    done.clear()
    pool.submit(done.set)
    assert done.wait(10)


def test_call_that_raises_does_not_end_the_pool(caplog: pytest.LogCaptureFixture) -> None:
    pool, done = ThreadPool(1), threading.Event()
    pool.submit(lambda: 1 / 0)  # type: ignore[arg-type, return-value]
    pool.submit(done.set)
    assert done.wait(10)
    assert "ended without an outcome" in caplog.text


def test_dropped_calls_do_not_run() -> None:
    pool, gate, ran = ThreadPool(1), threading.Event(), []
    pool.submit(lambda: gate.wait() and None)
    wait_until(lambda: pool._busy == 1, why="the first call runs")
    pool.submit(lambda: ran.append(1))
    pool.drop_waiting()
    gate.set()
    wait_until(lambda: pool._busy == 0, why="the first call ends")
    assert ran == []


def test_forked_process_has_its_own_threads() -> None:
    pool, done = ThreadPool(1), threading.Event()
    pool.submit(done.set)
    assert done.wait(10)
    child = os.fork()
    if not child:
        done.clear()
        pool.submit(done.set)
        os._exit(0 if done.wait(10) else 1)
    assert os.waitpid(child, 0)[1] == 0
