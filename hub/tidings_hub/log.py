r"""One line per log record, on standard error, without secrets and without control characters.

    2026-11-22T17:30:00.123Z INFO tidings.hub node=a1b2c3 listening port=8000

What a client sent reaches a log only escaped (`\n` as two characters), and what looks like a
token, a key or a URL's password is masked.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import stat
import sys
import termios
import time
from types import ModuleType

# POSIX: what is no longer than this goes into a pipe in one piece (PIPE_BUF on Linux).
LINE_MAX_BYTES = 4096
_SEARCHED_MAX = 16_384
REPEAT_S = 60.0
_KEYS_MAX = 1000
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_MASK = "***"
# None of these begins with an unbounded repetition: a long line takes time in proportion to its length.
_SECRETS = (
    # A JWT wherever it stands.
    (re.compile(r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]*)?"), _MASK),
    (re.compile(r"(?i)\b(bearer|basic) +[^\s\"',;]+"), rf"\1 {_MASK}"),
    (re.compile(r"(?i)(authorization[\"']? ?[:=] ?[\"']?)(?!bearer|basic)[^\s\"',;]+"), rf"\1{_MASK}"),
    (re.compile(r"(?i)((?:token|secret|passw(?:or)?d|api[_-]?key)[\"']? ?[:=] ?[\"']?)[^\s\"',;&}]+"), rf"\1{_MASK}"),
    # scheme://user:password@host
    (re.compile(r"(://[^\s/@:]*:)[^\s/@]+(@)"), rf"\1{_MASK}\2"),
)
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def mask_secrets(text: str) -> str:
    """`text` without what looks like a secret."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


def escape_control(text: str) -> str:
    r"""`text` on one line: control and direction characters as `\xNN` or `\uNNNN`."""
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


class LineFormatter(logging.Formatter):
    """Formats a record as one line: time, level, logger, message, then `extra` as key=value."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        parts = [
            f"{moment}.{int(record.msecs):03d}Z",
            record.levelname,
            record.name,
            escape_control(record.getMessage()),
        ]
        parts += [f"{name}={_shown(value)}" for name, value in vars(record).items() if name not in _STANDARD]
        if record.exc_info:
            parts.append(f"traceback={escape_control(self.formatException(record.exc_info))}")
        return mask_secrets(_cut(" ".join(parts)))


def _cut(line: str) -> str:
    """At most a few thousand characters of what will be shortened anyway, before it is searched for secrets."""
    if len(line) <= _SEARCHED_MAX:
        return line
    half = _SEARCHED_MAX // 2
    # The cut may split a secret: what follows it goes up to the next space, which no secret holds.
    return f"{line[:half]} ... {line[-half:].partition(' ')[2]}"


def _shown(value: object) -> str:
    text = escape_control(str(value))
    return json.dumps(text, ensure_ascii=False) if not text or " " in text or '"' in text or "=" in text else text


class StderrHandler(logging.Handler):
    """Writes lines to a descriptor and never waits for its reader.

    A node is one thread: a log that nobody reads must not stop it. When the descriptor takes
    nothing more, lines are dropped, and the next one that goes through says how many.
    """

    def __init__(self, select: ModuleType, fd: int = 2) -> None:
        super().__init__()
        self._fd = fd
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        # Not every kernel that says "writable" means a whole line: for a pipe the room is counted as well.
        self._pipe_bytes = fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ) if stat.S_ISFIFO(os.fstat(fd).st_mode) else 0
        self.dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one record, or counts it as dropped."""
        try:
            line = self.format(record)
            if self.dropped:
                line += f" dropped={self.dropped}"
            encoded = _shortened(line.encode("utf-8", "replace")) + b"\n"
            if not self._room_for(len(encoded)):
                self.dropped += 1
                return
            os.write(self._fd, encoded)
            self.dropped = 0
        except OSError:
            self.dropped += 1

    def _room_for(self, size_bytes: int) -> bool:
        if not self._poll.poll(0):
            return False
        if not self._pipe_bytes:
            return True
        waiting = fcntl.ioctl(self._fd, termios.FIONREAD, bytes(4))
        return int.from_bytes(waiting, sys.byteorder) + size_bytes <= self._pipe_bytes


def _shortened(line: bytes) -> bytes:
    """At most one atomic write: the middle of a long traceback says least."""
    room = LINE_MAX_BYTES - 1
    if len(line) <= room:
        return line
    half = room // 2 - 3
    return line[:half] + b" ... " + line[-half:]


def setup(level: str, *, select: ModuleType) -> StderrHandler:
    """Sends every logger's lines to standard error. `select` is the module as it was before monkey patching."""
    handler = StderrHandler(select)
    handler.setFormatter(LineFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_LEVELS[level])
    # Costly in a process whose greenlets are not threads, and said by no line.
    logging.logThreads = False
    logging.logMultiprocessing = False
    return handler


class RateLimit:
    """Lets a line through once per `every_s` and key, and counts what it held back."""

    def __init__(self, every_s: float = REPEAT_S) -> None:
        self._every_s = every_s
        self._seen: dict[str, tuple[float, int]] = {}

    def passes(self, key: str, *, now_s: float) -> int | None:
        """How many were held back since the last one, or None: hold this one back too."""
        last_s, held = self._seen.get(key, (now_s - self._every_s, 0))
        if now_s - last_s < self._every_s:
            self._seen[key] = (last_s, held + 1)
            return None
        if len(self._seen) >= _KEYS_MAX:
            self._seen.clear()
        self._seen[key] = (now_s, 0)
        return held


_LIMIT = RateLimit()


def log_rate_limited(logger: logging.Logger, level: int, key: str, message: str, *args: object) -> None:
    """Logs at most once a minute per key; the line says how many were left out before it.

    `key` is a constant of the calling code, never something that a client sent.
    """
    held = _LIMIT.passes(key, now_s=time.monotonic())
    if held is not None:
        logger.log(level, message, *args, extra={"suppressed": held} if held else None)
