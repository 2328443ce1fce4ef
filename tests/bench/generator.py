"""Run the load generator (load.c): many clients of one server."""

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
    """Quantiles of `count` samples, in microseconds."""

    count: int
    p50: float
    p95: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one command of the generator.

    Attributes:
        disorder: Deliveries whose number was not greater than the previous one of the same client.
        unrecovered: Channels with `recovered: false`.
        cpu_s: CPU seconds of the generator.
        elapsed_s: From the first emit (the data contains its time) to the last delivery.
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
    def parse(cls, reply: dict[str, Any]) -> Self:
        """Parse a reply of the generator."""
        quantiles = {name: Quantiles(**reply[name]) for name in ("latency_us", "connect_us")}
        return cls(**(reply | quantiles))


@dataclass(slots=True)
class Generator:
    """Many clients of the server on `port`; a context manager.

    Attributes:
        auth: A file with one CONNECT payload per client, one per line.
        ready: The event after which a client counts as connected. If empty, the accepted CONNECT counts.
        sample: One delivery in `sample` is timed.
        sources: Number of source addresses; 0 chooses it by the number of clients.
        keep_cursor: Clients reconnect with their last cursor.
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
        machine.send_line(self._process, line)
        return self.outcome()

    def connect(self, *, concurrency: int = 200, expected: int = 0, deadline_s: float = _CONNECT_DEADLINE_S) -> Outcome:
        """Connect all clients, wait until they are ready, and wait for `expected` deliveries.

        Raises:
            machine.BenchError: not all clients became ready.
        """
        outcome = self._command(f"connect {expected} {deadline_s} {concurrency}")
        if outcome.ready != self.clients:
            raise machine.BenchError(f"{outcome.ready} of {self.clients} clients became ready: {outcome.error}")
        return outcome

    def count(self, expected: int, *, deadline_s: float = 60.0, step: int = 0, fifo: Path | None = None) -> None:
        """Start counting deliveries. `outcome` waits until `expected` have arrived or `deadline_s` is over.

        The generator writes a byte into `fifo` for every `step` deliveries.
        """
        machine.send_line(self._process, f"count {expected} {deadline_s} {step} {fifo or ''}")
        machine.read_reply(self._process)

    def outcome(self) -> Outcome:
        """Wait for the last command and return its result."""
        return Outcome.parse(machine.read_reply(self._process))

    def hold(self, seconds: float) -> Outcome:
        """Keep all clients connected; they answer pings."""
        return self._command(f"hold {seconds}")

    def cut(self) -> Outcome:
        """Close every socket without a close packet."""
        return self._command("cut")

    def churn(self, times: int, *, concurrency: int, deadline_s: float = 300.0) -> Outcome:
        """Connect a client, wait until it is ready and disconnect it, `times` times in total.

        Raises:
            machine.BenchError: some clients did not become ready, or the deadline passed.
        """
        outcome = self._command(f"churn {times} {deadline_s} {concurrency}")
        if outcome.cycles < times or outcome.failed:
            raise machine.BenchError(f"{outcome.cycles} of {times} cycles, {outcome.failed} failed: {outcome.error}")
        return outcome
