"""The runtime and the pump. Each test runs a child process, because `runtime.patch()` changes the whole process."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def run(program: str, **environment: str) -> str:
    """Run `program` after `runtime.patch()` and return its output."""
    source = "\n".join(
        [
            "from tidings_hub import runtime",
            "runtime.patch()",
            "from support.waiting import QUIET_S, wait_until",
            textwrap.dedent(program),
        ]
    )
    path = os.pathsep.join(str(ROOT / name) for name in ("hub", "adapters", "tests"))
    process = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:eventlet", "-c", source],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert "Eventlet is deprecated" not in process.stderr
    return process.stdout.strip()


def test_hub_uses_epoll_and_originals_are_unpatched() -> None:
    assert (
        run("""
        import eventlet.hubs, socket
        print(type(eventlet.hubs.get_hub()).__module__, socket.socket is runtime.original("socket").socket)
        print(hasattr(runtime.original("select"), "epoll"))
    """)
        == "eventlet.hubs.epolls False\nTrue"
    )


def test_pool_is_bounded_and_survives_failures() -> None:
    assert (
        run("""
        errors, finished = [], []
        pool = runtime.Pool(2, 3, on_error=lambda error: errors.append(str(error)))
        def work(number):
            runtime.sleep(0.01)
            if number == 1:
                raise ValueError("on purpose")
            finished.append(number)
        print([pool.submit(work, number) for number in range(7)])
        wait_until(lambda: not pool.running and not len(pool))
        print(finished, errors, pool.running, len(pool), pool.submit(work, 9))
        wait_until(lambda: not pool.running)
        print(finished[-1])
    """)
        == "[True, True, True, True, True, False, False]\n[0, 2, 3, 4] ['on purpose'] 0 0 True\n9"
    )


def test_idle_greenlets_of_a_pool_take_the_next_calls() -> None:
    assert (
        run("""
        import greenlet
        greenlets = []
        pool = runtime.Pool(8, 8, on_error=print, idle_max=2)
        def work(seconds):
            greenlets.append(greenlet.getcurrent())
            runtime.sleep(seconds)
        def run_all(count, seconds):
            greenlets.clear()
            print([pool.submit(work, seconds) for _ in range(count)].count(True), end=" ")
            wait_until(lambda: not pool.running)
            return set(greenlets)
        first = run_all(5, 0.01)
        # Only two of them wait for further calls; switches of others and their end must not disturb the pool.
        waiting = [one for one in first if not one.dead]
        for one in waiting:
            runtime.call_soon(one.switch)
        runtime.sleep(0.01)
        second = run_all(1, 0)
        print(len(first), len(waiting), second <= set(waiting), end=" ")
        for one in waiting:
            runtime.call_soon(one.throw, runtime.Interruption(1))
        runtime.sleep(0.01)
        third = run_all(3, 0.01)
        print(third & set(waiting), all(one.dead for one in waiting), len(third))
    """)
        == "5 1 5 2 True 3 set() True 3"
    )


def test_calls_of_a_pool_start_although_one_of_them_ends_its_greenlet() -> None:
    assert (
        run("""
        import greenlet
        finished = []
        pool = runtime.Pool(2, 9, on_error=print, idle_max=2)
        def work(number):
            if number % 2:
                raise greenlet.GreenletExit
            finished.append(number)
        print([pool.submit(work, number) for number in range(8)].count(True))
        wait_until(lambda: not pool.running and not len(pool))
        print(finished, pool.unfinished)
    """)
        == "8\n[0, 2, 4, 6] 0"
    )


def test_timers_and_signals() -> None:
    assert (
        run("""
        calls = []
        signal = runtime.Signal()
        runtime.call_later(0.02, calls.append, "later")
        runtime.call_soon(calls.append, "soon")
        runtime.call_later(0.01, calls.append, "never").cancel()
        runtime.call_later(0.04, signal.set)
        runtime.call_soon(lambda: calls.append(runtime.in_hub()))
        print(runtime.in_hub(), signal.is_set)
        print(signal.wait(5), calls)
        signal.set()
    """)
        == "False False\nTrue ['soon', True, 'later']"
    )


PUMP = """
    import os
    from tidings_hub.engine.timing_wheel import TimingWheel
    from tidings_hub.engine.pump import Pump
    failures, recoveries = [], []
    wheel = TimingWheel(0.01, print)
    pump = Pump(
        wheel,
        linger_s=1,
        on_error=lambda error: failures.append(str(error)),
        on_recovered=lambda: recoveries.append(1),
        on_cut_off=lambda: None,
    )
    pump.start()
    original_os = runtime.original("os")
    class Reader:
        def __init__(self, error=None):
            self.fd, self.write_fd = original_os.pipe()
            original_os.set_blocking(self.fd, False)
            self.received, self.error, self.aborted = b"", error, False
            pump.add(self.fd, self)
        def on_event(self, mask):
            self.received += original_os.read(self.fd, 10)
            if self.error:
                raise self.error
        def abort(self):
            self.aborted = True
            pump.close(self.fd)
        def write(self, data):
            expected = self.received + data
            self.write_only(data)
            wait_until(lambda: self.received == expected)
            runtime.sleep()
        def write_only(self, data):
            original_os.write(self.write_fd, data)
"""


def test_pump_survives_every_exception() -> None:
    assert (
        run(
            PUMP
            + """
    import eventlet
    good = Reader()
    for error in (ValueError("a"), eventlet.Timeout(9), GeneratorExit("b"), RecursionError("c")):
        bad = Reader(error)
        bad.write(b"x")
        assert bad.aborted
        good.write(b"y")
    print(good.received, len(failures), len(pump), recoveries, pump.is_alive())
    """
        )
        == "b'yyyy' 4 1 [] True"
    )


def test_pump_survives_a_failing_abort_and_a_failing_log() -> None:
    assert (
        run(
            PUMP
            + """
    class FailingReader(Reader):
        def abort(self):
            raise KeyError("abort")
    def fail(error):
        failures.append(repr(error))
        raise OSError("log")
    pump._on_error = fail
    failing, good = FailingReader(ValueError("event")), Reader()
    failing.write(b"x")
    good.write(b"y")
    print(good.received, failures, len(pump))
    """
        )
        == """b'y' ["ValueError('event')", "KeyError('abort')"] 1"""
    )


def test_watchdog_waits_for_the_event_loop_of_a_starved_machine() -> None:
    """After a blocked loop, timers run first: events wait, although the pump is not lost."""
    assert (
        run(
            PUMP
            + """
    good = Reader()
    good.write(b"a")
    for _ in range(3):
        # Two periods of the watchdog. The last event waits for the loop, as the watchdog's timer does.
        good.write_only(b"b")
        runtime.original("time").sleep(2.1)
        runtime.sleep()
    wait_until(lambda: good.received == b"abbb")
    print(recoveries, pump.is_alive())
    """
        )
        == "[] True"
    )


def test_watchdog_registers_a_lost_pump_again() -> None:
    assert (
        run(
            PUMP
            + """
    good = Reader()
    good.write(b"a")
    runtime.unwatch(pump._epoll.fileno())
    good.write_only(b"b")
    runtime.sleep(QUIET_S)
    print(good.received, pump.is_alive())
    wait_until(lambda: recoveries and good.received == b"ab" and pump.is_alive())
    print(good.received, recoveries, pump.is_alive())
    """
        )
        == "b'a' False\nb'ab' [1] True"
    )


def test_pump_runs_on_the_asyncio_hub() -> None:
    assert (
        run(
            PUMP
            + """
    good = Reader()
    good.write(b"a")
    print(good.received)
    """,
            EVENTLET_HUB="asyncio",
        )
        == "b'a'"
    )


def test_turn_of_the_pump_is_short_and_serves_all_in_turn() -> None:
    """Clients that all send much share the event loop with timers and greenlets."""
    assert (
        run(
            PUMP
            + """
    class Busy(Reader):
        count = 0
        def on_event(self, mask):
            # Its input stays, so that it is ready in every turn.
            self.count += 1
            per_turn[pump.turns] = per_turn.get(pump.turns, 0) + 1
            end_s = runtime.now_s() + 0.001
            while runtime.now_s() < end_s:
                pass
    per_turn = {}
    clients = [Busy() for _ in range(150)]
    for client in clients:
        client.write_only(b"x")
    wait_until(lambda: len(per_turn) > 20 and min(client.count for client in clients) > 1)
    counts = [client.count for client in clients]
    print(max(per_turn.values()) <= 32, min(counts) > 0, max(counts) - min(counts) <= 1)
    """
        )
        == "True True True"
    )


def test_turns_of_greenlets_are_spread_over_the_rounds_of_the_hub() -> None:
    """Each is short, but those of all greenlets together would stop the hub."""
    assert (
        run("""
        import eventlet
        turns_s, rounds, ended = {}, [0], []
        def count_round():
            rounds[0] += 1
            runtime.call_soon(count_round)
        def work(number):
            started_s = 0.0
            try:
                for _ in range(3):
                    started_s = runtime.share_turn(started_s)
                    turns_s[rounds[0]] = turns_s.get(rounds[0], 0) + 1
                    end_s = runtime.now_s() + 0.006
                    while runtime.now_s() < end_s:
                        pass
                    started_s = 0.0
            except eventlet.Timeout:
                pass
            ended.append(number)
        def work_with_timeout(number):
            with eventlet.Timeout(0.03):
                work(number)
        count_round()
        for number in range(40):
            runtime.spawn(work, number)
        killed = runtime.spawn(work, 40)
        runtime.spawn(work_with_timeout, 41)
        runtime.sleep()
        killed.kill()
        wait_until(lambda: len(ended) == 41)
        print(max(turns_s.values()) <= 2, sum(turns_s.values()) >= 120, ended[:-1] == [41, *range(39)], ended[-1])
    """)
        == "True True True 39"
    )
