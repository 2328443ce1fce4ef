"""The command `tidings tail`: its output, and what it reports after a lost connection."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from support.network.proxy import Proxy
from support.processes.hub import HubProcess, environment, token
from support.waiting import wait_until
from tidings.errors import Unavailable
from tidings_hub.commands.event_stream import EventStream


class Tail:
    """A running `tidings tail`; `out` and `err` are the lines of its standard output and standard error so far."""

    def __init__(self, port: int, *arguments: str) -> None:
        self.out: list[str] = []
        self.err: list[str] = []
        command = [sys.executable, "-m", "tidings_hub", "tail", *arguments, "--url", f"http://127.0.0.1:{port}"]
        self._process = subprocess.Popen(
            [*command, "--token", token("tail", "*")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
            text=True,
        )
        self._readers = [
            threading.Thread(target=self._read, args=(pipe, lines), daemon=True)
            for pipe, lines in ((self._process.stdout, self.out), (self._process.stderr, self.err))
        ]
        for reader in self._readers:
            reader.start()

    def missing(self) -> list[str]:
        """Return its reports of missing publications."""
        return [line for line in self.err if "may be missing" in line]

    @staticmethod
    def _read(pipe: Iterator[str], lines: list[str]) -> None:
        for line in pipe:
            # One by one, because the test reads the list in the meantime.
            lines.append(line.rstrip("\n"))  # noqa: PERF401

    def wait(self) -> int:
        """Wait for the end of the command and return its exit code."""
        return self._process.wait(60)

    def stop(self) -> None:
        """Kill the command. Idempotent."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(20)
        for reader in self._readers:
            reader.join(20)
        for pipe in (self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    brief = '\n[namespaces.brief]\nsubscribe = "public"\nhistory = 5\n'
    process = HubProcess(tmp_path_factory.mktemp("hub"))
    process.config.write_text(process.config.read_text() + brief)
    yield process.start()
    process.stop()


def publish(hub: HubProcess, channel: str, *numbers: int) -> list[str]:
    """Publish numbers, and return the lines that the command prints for them."""
    for number in numbers:
        hub.publish(channel, "n", number)
    return [f"{channel} n {number}" for number in numbers]


def test_tail_recovers_after_a_cut_and_reports_missing_publications(hub: HubProcess) -> None:
    channels = ("orders:1", "brief:1", "ticks:1")
    with closing(Proxy(hub.port, plain=True)) as proxy:
        tail = Tail(proxy.port, *channels, "--count", "27")
        try:
            wait_until(lambda: hub.metric("tidings_subscriptions") >= 3, why="the subscriptions of the command")
            expected = [line for channel in channels for line in publish(hub, channel, 1, 2)]
            wait_until(lambda: tail.out == expected, why="publications are printed")
            assert tail.err == []
            proxy.refuse()
            wait_until(lambda: tail.err, why="the command reports the lost connection")
            expected += publish(hub, "orders:1", *range(3, 13))
            publish(hub, "brief:1", *range(3, 13))
            publish(hub, "ticks:1", *range(3, 13))
            proxy.accept_again()
            wait_until(lambda: tail.out == expected, why="recovered publications are printed once and in order")
            warnings = [f"tidings: {channel}: publications may be missing here" for channel in ("brief:1", "ticks:1")]
            wait_until(lambda: sorted(tail.missing()) == warnings, why="the command reports missing publications")
            expected += [line for channel in channels for line in publish(hub, channel, 13, 14)]
            wait_until(lambda: tail.out == expected, why="new publications are printed")
            # Nothing is published during a second cut, so the command reports nothing as missing.
            cuts = sum("event stream" in line for line in tail.err)
            proxy.cut()
            wait_until(
                lambda: sum("event stream" in line for line in tail.err) > cuts,
                why="the command reports the second cut",
            )
            expected += publish(hub, "orders:1", 15, 16, 17, 18, 19)
            assert tail.wait() == 0
            wait_until(lambda: tail.out == expected, why="the command exits after its last publication")
            assert sorted(tail.missing()) == warnings
        finally:
            tail.stop()


def test_since_a_cursor_nothing_is_missing_in_a_complete_history(hub: HubProcess) -> None:
    """The stream also has the channel of the token's user, for which `--since` has no position."""
    hub.publish("orders:since", "n", 1)
    cursor = hub.get("/api/channels/orders:since/history")[1]["cursor"]
    expected = publish(hub, "orders:since", 2, 3)
    tail = Tail(hub.port, "orders:since", "--since", cursor, "--count", "2")
    try:
        assert tail.wait() == 0
        wait_until(lambda: tail.out == expected, why="the publications after the cursor are printed")
    finally:
        tail.stop()
    assert tail.err == []


def test_quiet_stream_is_not_reported_as_broken(hub: HubProcess) -> None:
    """The limit for silence follows from the heartbeats, not from the timeout of the first response."""
    with EventStream(hub.url, ["ticks:quiet"], token=token("tail", "*"), timeout_s=1) as stream:
        events = iter(stream)
        assert next(events).name == "tidings:ready"
        later = threading.Timer(2.0, publish, (hub, "ticks:quiet", 1))
        later.start()
        assert next(events).name == "n"
        later.join(20)
        stream.set_silence_timeout(0.2)
        with pytest.raises(Unavailable, match="timed out"):
            next(events)
