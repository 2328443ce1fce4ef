"""`tidings tail` as somebody runs it: what it prints, and what it says after its connection was cut."""

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
    """The command; `out` and `said` are the lines of its two outputs so far."""

    def __init__(self, port: int, *arguments: str) -> None:
        self.out: list[str] = []
        self.said: list[str] = []
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
            for pipe, lines in ((self._process.stdout, self.out), (self._process.stderr, self.said))
        ]
        for reader in self._readers:
            reader.start()

    def missing(self) -> list[str]:
        """What it said about publications that are missing."""
        return [line for line in self.said if "may be missing" in line]

    @staticmethod
    def _read(pipe: Iterator[str], lines: list[str]) -> None:
        for line in pipe:
            # One by one: the test looks at what is there so far.
            lines.append(line.rstrip("\n"))  # noqa: PERF401

    def wait(self) -> int:
        """Its exit code."""
        return self._process.wait(60)

    def stop(self) -> None:
        """End it. Idempotent."""
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
    """Publish numbers; the lines that they are printed as."""
    for number in numbers:
        hub.publish(channel, "n", number)
    return [f"{channel} n {number}" for number in numbers]


def test_after_a_cut_it_goes_on_and_says_what_it_missed(hub: HubProcess) -> None:
    channels = ("orders:1", "brief:1", "ticks:1")
    with closing(Proxy(hub.port, plain=True)) as door:
        tail = Tail(door.port, *channels, "--count", "27")
        try:
            wait_until(lambda: hub.metric("tidings_subscriptions") >= 3, why="it listens")
            expected = [line for channel in channels for line in publish(hub, channel, 1, 2)]
            wait_until(lambda: tail.out == expected, why="what is published is printed")
            assert tail.said == []
            door.refuse()
            wait_until(lambda: tail.said, why="it says that it was cut off")
            expected += publish(hub, "orders:1", *range(3, 13))
            publish(hub, "brief:1", *range(3, 13))
            publish(hub, "ticks:1", *range(3, 13))
            door.accept_again()
            wait_until(lambda: tail.out == expected, why="what can be recovered is printed, once and in order")
            told = [f"tidings: {channel}: publications may be missing here" for channel in ("brief:1", "ticks:1")]
            wait_until(lambda: sorted(tail.missing()) == told, why="it says what it missed")
            expected += [line for channel in channels for line in publish(hub, channel, 13, 14)]
            wait_until(lambda: tail.out == expected, why="it goes on")
            # A second cut, in which nothing is published: nothing is missing, and nothing is said to be.
            cuts = sum("event stream" in line for line in tail.said)
            door.cut()
            wait_until(lambda: sum("event stream" in line for line in tail.said) > cuts, why="it says so again")
            expected += publish(hub, "orders:1", 15, 16, 17, 18, 19)
            assert tail.wait() == 0
            wait_until(lambda: tail.out == expected, why="it ends with the last of its count")
            assert sorted(tail.missing()) == told
        finally:
            tail.stop()


def test_a_quiet_stream_is_not_a_broken_one(hub: HubProcess) -> None:
    """Silence is measured in heartbeats, not by how long the first answer may take."""
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
