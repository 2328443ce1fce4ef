"""load.c as an object: many clients of one server, and what became of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from bench import machine

Transport = Literal["websocket", "polling"]
# One source address has about 28,000 ports.
_CLIENTS_PER_SOURCE = 20_000
_CONNECT_DEADLINE_S = 120.0


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Of one distribution, in microseconds; `count` samples."""

    count: int
    p50: float
    p95: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one command of the generator saw.

    `elapsed_s`: from the first emit (its own clock, in the data) to the last delivery.
    `disorder`: deliveries whose number did not rise within their client.
    `unrecovered`: channels answered `recovered: false`. `cpu_s`: the generator's own.
    """

    phase: str
    clients: int
    ready: int
    failed: int
    lost: int
    unrecovered: int
    cycles: int
    expected: int
    deliveries: int
    disorder: int
    client_min: int
    client_max: int
    bytes: int
    frames: int
    polls: int
    wall_s: float
    cpu_s: float
    spread_s: float
    elapsed_s: float
    error: str
    latency_us: Quantiles
    connect_us: Quantiles

    @classmethod
    def parse(cls, answer: dict[str, Any]) -> Self:
        """From the generator's line."""
        quantiles = {name: Quantiles(**answer[name]) for name in ("latency_us", "connect_us")}
        return cls(**(answer | quantiles))


@dataclass(slots=True)
class Generator:
    """Many clients of the server on `port`; a context manager.

    `auth` has one CONNECT payload per line, one line per client. `ready` is the event
    after which a client counts as connected; empty: its CONNECT was accepted. One delivery
    in `sample` is timed. `keep_cursor`: clients come back with their last cursor.
    """

    binary: Path
    port: int
    clients: int
    auth: Path
    ready: str = ""
    transport: Transport = "websocket"
    sample: int = 1
    sources: int = 0
    keep_cursor: bool = False
    _process: Any = field(default=None, init=False)

    def __enter__(self) -> Self:
        sources = self.sources or 1 + self.clients // _CLIENTS_PER_SOURCE
        options = {
            "port": self.port,
            "clients": self.clients,
            "auth": self.auth,
            "ready": self.ready,
            "transport": self.transport,
            "sample": self.sample,
            "sources": sources,
        }
        command = [str(self.binary), *(f"--{name}={value}" for name, value in options.items())]
        if self.keep_cursor:
            command.append("--keep-cursor")
        self._process = machine.spawn(command, core=machine.LOAD_CORE)
        return self

    def __exit__(self, *_: object) -> None:
        machine.stop(self._process)

    def _command(self, line: str) -> Outcome:
        machine.say(self._process, line)
        return self.outcome()

    def connect(self, *, concurrency: int = 200, expected: int = 0, deadline_s: float = _CONNECT_DEADLINE_S) -> Outcome:
        """Connects all clients and waits for them, and for `expected` deliveries.

        Raises:
            machine.BenchError: not all of them became ready.
        """
        outcome = self._command(f"connect {expected} {deadline_s} {concurrency}")
        if outcome.ready != self.clients:
            raise machine.BenchError(f"{outcome.ready} of {self.clients} clients became ready: {outcome.error}")
        return outcome

    def count(self, expected: int, *, deadline_s: float = 60.0, step: int = 0, fifo: Path | None = None) -> None:
        """Begins to count deliveries; `outcome` waits until `expected` have come or the time is over.

        A byte goes into `fifo` for every `step` deliveries.
        """
        machine.say(self._process, f"count {expected} {deadline_s} {step} {fifo or ''}")
        machine.hear(self._process)

    def outcome(self) -> Outcome:
        """What the command that was begun last has seen, when it has ended."""
        return Outcome.parse(machine.hear(self._process))

    def hold(self, seconds: float) -> Outcome:
        """Stays connected and answers pings."""
        return self._command(f"hold {seconds}")

    def cut(self) -> Outcome:
        """Closes every socket without a word."""
        return self._command("cut")

    def churn(self, times: int, *, concurrency: int, deadline_s: float = 300.0) -> Outcome:
        """Connects, becomes ready and leaves again, `times` times in all.

        Raises:
            machine.BenchError: some did not become ready, or the time was over.
        """
        outcome = self._command(f"churn {times} {deadline_s} {concurrency}")
        if outcome.cycles < times or outcome.failed:
            raise machine.BenchError(f"{outcome.cycles} of {times} cycles, {outcome.failed} failed: {outcome.error}")
        return outcome
