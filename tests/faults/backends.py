"""One process with many backends that publish without pause, most into Redis, some over HTTP through the proxy.

Every publish and its answer is noted. A publish that failed is tried again with the same id, as the errors advise.
Prints what was done so far as lines of JSON. Lines on its input: `stop` ends the load, `mark` publishes a last
publication in every channel.
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
_AGAIN = 3
# One backend of so many publishes over HTTP.
_HTTP_EVERY = 10
_TELL_S = 0.25
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
            # Each backend goes through all channels, all of them at other places.
            channel = names[(count * 7 + number * 13) % len(names)]
            self._publish(emitter, channel, f"b{number}-{count}")
            # What could not be published in time is not made up for: a load without bursts.
            at_s = max(at_s + every_s, time.monotonic() - 1.0)

    def _publish(self, emitter: Emitter, channel: str, id: str) -> bool:
        who = id.partition("-")[0]
        self._recorder.note(who, "sending", channel, id=id)
        error: TidingsError = Unavailable()
        for _ in range(_AGAIN):
            try:
                receipt = emitter.emit("n", {"id": id, "text": _PADDING}, channel=channel, id=id)
            except TidingsError as caught:
                error = caught
                if self._stopping.is_set() and not id.startswith(MARK):
                    break
            else:
                self.acked += 1
                self.duplicates += receipt.duplicate
                self._recorder.acked(who, channel, id, receipt)
                return True
        self.refused += 1
        self._recorder.acked(who, channel, id, error)
        return False

    def start(self) -> None:
        for thread in self.threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self.threads:
            thread.join()

    def mark(self) -> None:
        """A publication that ends the history, in every channel, however long it takes."""
        self._marks += 1
        for channel in self._load.names():
            while not self._publish(self._redis, channel, f"{MARK}{self._marks}-{time.monotonic_ns()}"):
                time.sleep(0.1)

    def say(self, **more: object) -> None:
        counts = {"acked": self.acked, "refused": self.refused, "duplicates": self.duplicates}
        print(json.dumps({**counts, **more}), flush=True)


def main() -> None:
    backends = Backends(json.loads(sys.argv[1]))
    ended = threading.Event()

    def tell() -> None:
        while not ended.wait(_TELL_S):
            backends.say()

    threading.Thread(target=tell, daemon=True).start()
    for line in sys.stdin:
        match line.strip():
            case "start":
                backends.start()
            case "stop":
                backends.stop()
                backends.say(stopped=True)
            case "mark":
                backends.mark()
                backends.say(mark=backends._marks)
    ended.set()


if __name__ == "__main__":
    main()
