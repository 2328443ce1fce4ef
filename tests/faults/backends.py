"""One process with many backends that publish continuously, most to Redis, some over HTTP through nginx.

The process records every publish and its result. It retries a failed publish with the same id. It prints its counters
as lines of JSON. Lines on stdin: `start` starts the load, `stop` stops it, `mark` publishes a last publication in every
channel.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

from faults.load import MARK, Load
from support.history import Recorder
from support.processes.hub import API_KEY
from tidings import Emitter
from tidings.errors import TidingsError, Unavailable

_TIMEOUT_S = 1.0
_ATTEMPTS = 3
# Every tenth backend publishes over HTTP.
_HTTP_EVERY = 10
_REPORT_S = 0.25
_PADDING = "x" * 100


class Backends:
    """The backends of this process, each a thread."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._load = Load(**options["load"])
        self._recorder = Recorder(Path(options["file"]))
        self._redis = Emitter(options["broker"], timeout_s=_TIMEOUT_S)
        self._http = Emitter(f"http://127.0.0.1:{options['port']}", api_key=API_KEY, timeout_s=_TIMEOUT_S)
        self._stopping = threading.Event()
        self._marks = 0
        self.acked = 0
        self.refused = 0
        self.duplicates = 0
        self.threads = [
            threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(self._load.backends)
        ]

    def _run(self, number: int) -> None:
        every_s = self._load.backends / self._load.publications_per_s
        emitter = self._http if number % _HTTP_EVERY == _HTTP_EVERY - 1 else self._redis
        names = self._load.names()
        at_s = time.monotonic() + every_s * number / self._load.backends
        count = 0
        while not self._stopping.wait(max(0.0, at_s - time.monotonic())):
            count += 1
            # Each backend cycles through all channels, from another start.
            channel = names[(count * 7 + number * 13) % len(names)]
            self._publish(emitter, channel, f"b{number}-{count}")
            # A delayed backend does not catch up, so that the load has no bursts.
            at_s = max(at_s + every_s, time.monotonic() - 1.0)

    def _publish(self, emitter: Emitter, channel: str, id: str) -> bool:
        actor = id.partition("-")[0]
        self._recorder.note(actor, "sending", channel, id=id)
        error: TidingsError = Unavailable()
        for _ in range(_ATTEMPTS):
            try:
                receipt = emitter.emit("n", {"id": id, "text": _PADDING}, channel=channel, id=id)
            except TidingsError as failure:
                error = failure
                if self._stopping.is_set() and not id.startswith(MARK):
                    break
            else:
                self.acked += 1
                self.duplicates += receipt.duplicate
                self._recorder.acked(actor, channel, id, receipt)
                return True
        self.refused += 1
        self._recorder.acked(actor, channel, id, error)
        return False

    def start(self) -> None:
        for thread in self.threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self.threads:
            thread.join()

    def mark(self) -> None:
        """Publish a last publication in every channel. Retries until it succeeds."""
        self._marks += 1
        for channel in self._load.names():
            while not self._publish(self._redis, channel, f"{MARK}{self._marks}-{time.monotonic_ns()}"):
                time.sleep(0.1)

    def report(self, **more: object) -> None:
        counts = {"acked": self.acked, "refused": self.refused, "duplicates": self.duplicates}
        # One write for the whole line: `print` writes the end of the line apart, and two threads report.
        sys.stdout.write(json.dumps({**counts, **more}) + "\n")
        sys.stdout.flush()


def main() -> None:
    backends = Backends(json.loads(sys.argv[1]))
    stopped = threading.Event()

    def report_counters() -> None:
        while not stopped.wait(_REPORT_S):
            backends.report()

    threading.Thread(target=report_counters, daemon=True).start()
    for line in sys.stdin:
        match line.strip():
            case "start":
                backends.start()
            case "stop":
                backends.stop()
                backends.report(stopped=True)
            case "mark":
                backends.mark()
                backends.report(mark=backends._marks)
    stopped.set()


if __name__ == "__main__":
    main()
