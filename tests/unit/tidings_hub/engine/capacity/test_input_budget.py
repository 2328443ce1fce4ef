"""The budget of input of clients that are not authenticated."""

from __future__ import annotations

from collections.abc import Callable

from support.engine_metrics import EngineCounters
from support.limits import engine_limits
from tidings_hub.engine.capacity.input_budget import InputBudget, Strangers


class SmallHolder:
    """Remembers how it was closed."""

    def __init__(self, strangers: Strangers | None = None) -> None:
        self.codes: list[str] = []
        self._strangers = strangers

    def shed_input(self) -> None:
        self.close("full")

    def close(self, code: str) -> None:
        self.codes.append(code)
        if self._strangers is not None:
            self._strangers.remove(self)


def call(function: Callable[[], object]) -> None:
    function()


def new_budget(**limits: int) -> tuple[InputBudget, EngineCounters]:
    metrics = EngineCounters()
    return InputBudget(engine_limits(input_max_bytes=1000, **limits), metrics, call_safely=call), metrics


def test_holders_that_began_first_are_closed_beyond_the_budget() -> None:
    budget, metrics = new_budget()
    holders = [SmallHolder() for _ in range(4)]
    for holder in holders[:3]:
        budget.hold(holder, 300)
    # The first one grows. It stays the first.
    budget.hold(holders[0], 350)
    assert budget.total_bytes == 950
    budget.hold(holders[3], 300)
    assert [holder.codes for holder in holders] == [["full"], [], [], []]
    assert (budget.total_bytes, len(budget), metrics.input_shed) == (900, 3, 1)


def test_released_bytes_no_longer_count() -> None:
    budget, metrics = new_budget()
    first, second = SmallHolder(), SmallHolder()
    for _ in range(10):
        budget.hold(first, 900)
        budget.release(first)
        budget.release(first)
    budget.hold(second, 1000)
    assert (budget.total_bytes, len(budget), metrics.input_shed) == (1000, 1, 0)


def test_holder_of_more_than_the_budget_is_closed_itself() -> None:
    budget, _ = new_budget()
    holder = SmallHolder()
    budget.hold(holder, 1001)
    assert (holder.codes, budget.total_bytes) == (["full"], 0)


def test_stranger_that_sends_too_much_is_closed() -> None:
    budget, _ = new_budget()
    strangers = Strangers(engine_limits(connect_max_bytes=500), budget)
    connection = SmallHolder(strangers)
    strangers.add(connection)
    assert strangers.count(connection, 300)
    assert strangers.count(connection, 200)
    assert not strangers.count(connection, 1)
    assert (connection.codes, budget.total_bytes, len(strangers.members)) == (["too_large"], 0, 0)


def test_strangers_share_the_budget() -> None:
    budget, _ = new_budget()
    strangers = Strangers(engine_limits(connect_max_bytes=500), budget)
    silent, *connections = [SmallHolder(strangers) for _ in range(4)]
    strangers.add(silent)
    for connection in connections:
        strangers.add(connection)
        assert strangers.count(connection, 400)
    assert [connection.codes for connection in connections] == [["full"], [], []]
    # A client that sent nothing costs nothing, however old it is.
    assert silent.codes == []


def test_authenticated_client_is_no_stranger() -> None:
    budget, _ = new_budget()
    strangers = Strangers(engine_limits(connect_max_bytes=500), budget)
    connection = SmallHolder(strangers)
    strangers.add(connection)
    strangers.count(connection, 400)
    strangers.remove(connection)
    strangers.remove(connection)
    assert (budget.total_bytes, len(budget), len(strangers.members)) == (0, 0, 0)
