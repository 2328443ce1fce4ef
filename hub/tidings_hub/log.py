r"""Logging: one line per record on standard error, without secrets and without control characters.

    2026-11-22T17:30:00.123Z INFO tidings.hub node=a1b2c3 listening port=8000

Text of a client is escaped (`\n` as two characters). Text that looks like a token, a key or the password of a URL is
masked.
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

# POSIX: a write of at most this size to a pipe is atomic (PIPE_BUF on Linux).
LINE_MAX_BYTES = 4096
_SEARCHED_MAX = 16_384
REPEAT_S = 60.0
_KEYS_MAX = 1000
# The logger of python-socketio.
UPSTREAM = "tidings.socketio.upstream"
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_MASK = "***"
# What our own messages write in the place of a secret. A placeholder shows that something belongs there.
_NO_PLACEHOLDER = r"(?!<[A-Za-z ]{1,30}>|\$\(openssl |…[\s}\"']|…$)"
# No pattern begins with an unbounded repetition, so the time is proportional to the length of the line.
_SECRETS = (
    # A JWT anywhere in the line.
    (re.compile(r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]*)?"), _MASK),
    (re.compile(rf"(?i)\b(bearer|basic) +{_NO_PLACEHOLDER}(?!realm=)[^\s\"',;]+"), rf"\1 {_MASK}"),
    (re.compile(r"(?i)(authorization[\"']? ?[:=] ?[\"']?)(?!bearer|basic)[^\s\"',;]+"), rf"\1{_MASK}"),
    (
        re.compile(
            rf"(?i)((?:token|secret|passw(?:or)?d|api[_-]?key)[\"']? ?[:=] ?[\"']?){_NO_PLACEHOLDER}[^\s\"',;&}}]+"
        ),
        rf"\1{_MASK}",
    ),
    # scheme://user:password@host. A password may have an @ itself, and in the URL of a broker a / that should be %2F.
    (re.compile(r"(://[^\s/@:]*:)(?!password\]?@)[^\s/]+(@)"), rf"\1{_MASK}\2"),
    (
        re.compile(r"(?i)((?:rediss?|amqps?)(?:\+[a-z]+)?://[^\s/@:]*:)(?!password\]?@)[^\s\"']{1,500}(@)"),
        rf"\1{_MASK}\2",
    ),
)
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def mask_secrets(text: str) -> str:
    """Replace everything in `text` that looks like a secret."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


def escape_control(text: str) -> str:
    r"""Escape control and direction characters of `text` as `\xNN` or `\uNNNN`, so that it stays on one line."""
    return _CONTROL.sub(lambda match: ascii(match[0])[1:-1], text)


class LineFormatter(logging.Formatter):
    """Formats a record as one line: time, level, logger, message, then `extra` as key=value."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without a line break."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        parts = [
            f"{moment}.{int(record.msecs):03d}Z",
            record.levelname,
            record.name,
            escape_control(record.getMessage()),
        ]
        parts += [f"{name}={_quote_value(value)}" for name, value in vars(record).items() if name not in _STANDARD]
        if record.exc_info:
            parts.append(f"traceback={escape_control(self.formatException(record.exc_info))}")
        return mask_secrets(_cut_long(" ".join(parts)))


def _cut_long(line: str) -> str:
    """Shorten a very long line before the search for secrets. `_shorten` shortens it further afterwards."""
    if len(line) <= _SEARCHED_MAX:
        return line
    half = _SEARCHED_MAX // 2
    # The cut may split a secret, so the rest up to the next space is removed: no secret contains a space.
    return f"{line[:half]} ... {line[-half:].partition(' ')[2]}"


def _quote_value(value: object) -> str:
    text = escape_control(str(value))
    return json.dumps(text, ensure_ascii=False) if not text or " " in text or '"' in text or "=" in text else text


class StderrHandler(logging.Handler):
    """Writes lines to a file descriptor and never waits for its reader.

    A node has one thread, so a log that is not read must not block it. While the descriptor accepts no data, lines are
    dropped. The next line that is written contains their number.
    """

    def __init__(self, select: ModuleType, fd: int = 2) -> None:
        super().__init__()
        self._fd = fd
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        # Some kernels report a pipe as writable without room for a whole line, so the free room is computed as well.
        self._pipe_bytes = fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ) if stat.S_ISFIFO(os.fstat(fd).st_mode) else 0
        self.dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record, or count it as dropped."""
        try:
            line = self.format(record)
            if self.dropped:
                line += f" dropped={self.dropped}"
            encoded = _shorten(line.encode("utf-8", "replace")) + b"\n"
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


def _shorten(line: bytes) -> bytes:
    """Shorten a line to one atomic write. It removes the middle: that part of a long traceback matters least."""
    room = LINE_MAX_BYTES - 1
    if len(line) <= room:
        return line
    half = room // 2 - 3
    return line[:half] + b" ... " + line[-half:]


def setup(level: str, *, select: ModuleType) -> StderrHandler:
    """Send the lines of all loggers to standard error. `select` is the module before monkey patching."""
    handler = StderrHandler(select)
    handler.setFormatter(LineFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_LEVELS[level])
    # At `info` it writes a line for each event of a client, so that a client could fill the log.
    logging.getLogger(UPSTREAM).setLevel(logging.NOTSET if level == "debug" else logging.WARNING)
    # No line contains these fields, and computing them is slow in a process with greenlets.
    logging.logThreads = False
    logging.logMultiprocessing = False
    return handler


class RateLimit:
    """Allows one line per `interval_s` seconds and key, and counts the suppressed ones."""

    def __init__(self, interval_s: float = REPEAT_S) -> None:
        self._interval_s = interval_s
        self._last_lines: dict[str, tuple[float, int]] = {}

    def passes(self, key: str, *, now_s: float) -> int | None:
        """How many lines were suppressed since the last allowed one; None: suppress this one as well."""
        last_s, suppressed = self._last_lines.get(key, (now_s - self._interval_s, 0))
        if now_s - last_s < self._interval_s:
            self._last_lines[key] = (last_s, suppressed + 1)
            return None
        if len(self._last_lines) >= _KEYS_MAX:
            self._last_lines.clear()
        self._last_lines[key] = (now_s, 0)
        return suppressed


_LIMIT = RateLimit()


def log_rate_limited(logger: logging.Logger, level: int, key: str, message: str, *args: object) -> None:
    """Log at most once a minute per key. The line contains the number of lines suppressed before it.

    `key` is a constant of the calling code, never text of a client.
    """
    suppressed = _LIMIT.passes(key, now_s=time.monotonic())
    if suppressed is not None:
        logger.log(level, message, *args, extra={"suppressed": suppressed} if suppressed else None)
