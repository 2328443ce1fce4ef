"""A real hub for tests: `tidings serve --dev` in a process, on a free port, with its broker in memory."""

from __future__ import annotations

import os
import re
import secrets
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final, Self

from tidings.emitter import Emitter
from tidings.errors import MissingExtra, Unavailable

_ADDRESS = re.compile(r"http://\S+:([0-9]+)/")
_STOP_S: Final = 10.0
_LOG_SHOWN: Final = 4000


class HubProcess:
    """One hub; use it as a context, or call `start` and `stop`. It needs `pip install 'tidings[server]'`.

    `flags` go to `tidings serve`, such as `("--app", "myapp.realtime")`; `settings` are more settings by name. It reads
    no tidings.toml, unless `--config` is among the flags, and no `TIDINGS_*` of this process.
    """

    def __init__(self, *flags: str, settings: Mapping[str, object] | None = None, start_s: float = 30.0) -> None:
        self._flags = flags
        self._settings = dict(settings or {})
        self._start_s = start_s
        self._secret = secrets.token_urlsafe(32)
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="tidings-test-")
        self.log = Path(self._folder.name) / "hub.log"
        self.port = 0

    @property
    def url(self) -> str:
        """Its address: for browsers, `socketio.Client` and `Emitter`."""
        return f"http://127.0.0.1:{self.port}"

    def emitter(self) -> Emitter:
        """An emitter to this hub; close it, or use it as a context."""
        return Emitter(self.url)

    def token(self, user: str, *channels: str, **claims: Any) -> str:
        """A token that this hub accepts. Under `--dev` a client without one is let in, too."""
        from tidings.tokens.issue import issue

        return issue(user, key=self._secret, channels=channels, **claims)

    def start(self) -> Self:
        """Start it, and wait until it listens.

        Raises:
            MissingExtra: the hub's own packages are not installed. Unavailable: it did not start, and why.
        """
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - a program of ours with the test's own flags
                self._command(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, env=self._environment()
            )
        assert self._process.stdout is not None  # noqa: S101 - asked for above
        with self._process.stdout as stdout:
            line = _first_line(stdout, self._start_s)
        found = _ADDRESS.search(line)
        if found is None:
            self.stop()
            said = self.log.read_text(errors="replace") if self.log.exists() else ""
            if "tidings[server]" in said or "No module named tidings_hub" in said:
                raise MissingExtra("a real hub needs the hub's own packages: pip install 'tidings[server]'")
            raise Unavailable(f"the hub did not start within {self._start_s:g} s: {said[-_LOG_SHOWN:]}")
        self.port = int(found[1])
        return self

    def stop(self) -> None:
        """End this process, and no other; what it logged stays in `log` until then. Idempotent."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_STOP_S)

    def close(self) -> None:
        """Stop it and remove its log."""
        self.stop()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    def _command(self) -> Sequence[str]:
        nothing = Path(self._folder.name) / "tidings.toml"
        nothing.touch()
        config = () if "--config" in self._flags else ("--config", str(nothing))
        command = [sys.executable, "-m", "tidings_hub", "serve", "--dev", "--broker", "memory://", "--port", "0"]
        return [*command, *config, *self._flags]

    def _environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TIDINGS_")}
        # Nobody has to be sent away gently at the end of a test.
        own = {"secret": self._secret, "drain_s": 0, "presence_grace_s": 0.1, **self._settings}
        # The process finds the modules that this one finds.
        path = os.pathsep.join(dict.fromkeys([str(Path.cwd()), *filter(None, sys.path)]))
        return inherited | {f"TIDINGS_{name.upper()}": str(value) for name, value in own.items()} | {"PYTHONPATH": path}


def _first_line(stdout: IO[bytes], within_s: float) -> str:
    """What the hub says once it listens; what there is when it ends or the time is up."""
    end_s, said = time.monotonic() + within_s, b""
    with selectors.DefaultSelector() as selector:
        selector.register(stdout, selectors.EVENT_READ)
        while b"\n" not in said and selector.select(max(0.0, end_s - time.monotonic())):
            part = os.read(stdout.fileno(), 4096)
            if not part:
                break
            said += part
    return said.decode(errors="replace")
