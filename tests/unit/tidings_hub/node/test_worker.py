from __future__ import annotations

from tidings_hub.node.worker import VARIABLE, Worker

WORKER = Worker(2, {"n-0": "unix:/run/n-0", "n-1": "unix:/run/n-1", "n-2": "unix:/run/n-2"})


def test_a_worker_is_read_from_the_environment() -> None:
    assert Worker.from_environment({VARIABLE: WORKER.to_text()}) == WORKER
    assert Worker.from_environment({}) is None


def test_each_worker_advertises_its_own_port() -> None:
    assert WORKER.advertise("10.0.0.5:9000") == "10.0.0.5:9002"
    assert WORKER.advertise("[fd00::5]:9000") == "[fd00::5]:9002"
    assert WORKER.advertise("") == ""
