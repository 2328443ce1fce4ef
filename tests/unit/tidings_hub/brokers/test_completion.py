from __future__ import annotations

import threading

from tidings_hub.brokers.completion import Completion


def test_all_that_wait_continue_when_it_is_set() -> None:
    completion, results = Completion(), []
    threads = [threading.Thread(target=lambda: results.append(completion.wait(60))) for _ in range(5)]
    for thread in threads:
        thread.start()
    completion.set()
    completion.set()
    for thread in threads:
        thread.join(60)
    assert results == [True] * 5
    assert completion.wait(0)


def test_a_wait_ends_after_its_time() -> None:
    completion = Completion()
    assert not completion.wait(0.01)
    assert not completion.wait(0)
    assert not completion.wait(-1)
    completion.set()
    assert completion.wait(0.01)
    assert completion.wait()
