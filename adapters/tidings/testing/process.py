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
    """One hub. Use it as a context manager, or call `start` and `stop`. Needs `pip install 'tidings[server]'`.

    `flags` are flags of `tidings serve`, such as `("--app", "myapp.realtime")`; `settings` are more settings by name.
    The hub reads no `TIDINGS_*` variables of this process, and no tidings.toml unless `--config` is among the flags.
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
        """An emitter to this hub. Close it, or use it as a context manager."""
        return Emitter(self.url)

    def token(self, user: str, *channels: str, **claims: Any) -> str:
        """A token that this hub accepts. With `--dev` a client without a token may connect, too."""
        from tidings.tokens.issue import issue

        return issue(user, key=self._secret, channels=channels, **claims)

    def start(self) -> Self:
        """Start the hub, and wait until it listens.

        Raises:
            MissingExtra: the hub's own packages are not installed.
            Unavailable: it did not start; the message has its log.
        """
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - a program of ours with the test's own flags
                self._command(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, env=self._environment()
            )
        assert self._process.stdout is not None  # noqa: S101 - a pipe, see above
        with self._process.stdout as stdout:
            line = _first_line(stdout, self._start_s)
        address = _ADDRESS.search(line)
        if address is None:
            self.stop()
            log_text = self.log.read_text(errors="replace") if self.log.exists() else ""
            if "tidings[server]" in log_text or "No module named tidings_hub" in log_text:
                raise MissingExtra("a real hub needs the hub's own packages: pip install 'tidings[server]'")
            raise Unavailable(f"the hub did not start within {self._start_s:g} s: {log_text[-_LOG_SHOWN:]}")
        self.port = int(address[1])
        return self

    def stop(self) -> None:
        """Stop the process. Its log stays in `log` until `close`. Idempotent."""
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
        empty_config = Path(self._folder.name) / "tidings.toml"
        empty_config.touch()
        config = () if "--config" in self._flags else ("--config", str(empty_config))
        command = [sys.executable, "-m", "tidings_hub", "serve", "--dev", "--broker", "memory://", "--port", "0"]
        return [*command, *config, *self._flags]

    def _environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TIDINGS_")}
        # At the end of a test no client needs time to reconnect elsewhere.
        own = {"secret": self._secret, "drain_s": 0, "presence_grace_s": 0.1, **self._settings}
        # The hub imports from the same paths as this process.
        path = os.pathsep.join(dict.fromkeys([str(Path.cwd()), *filter(None, sys.path)]))
        return inherited | {f"TIDINGS_{name.upper()}": str(value) for name, value in own.items()} | {"PYTHONPATH": path}


def _first_line(stdout: IO[bytes], within_s: float) -> str:
    """The line that the hub prints once it listens; less if it ends or the time is over."""
    end_s, line = time.monotonic() + within_s, b""
    with selectors.DefaultSelector() as selector:
        selector.register(stdout, selectors.EVENT_READ)
        while b"\n" not in line and selector.select(max(0.0, end_s - time.monotonic())):
            part = os.read(stdout.fileno(), 4096)
            if not part:
                break
            line += part
    return line.decode(errors="replace")
