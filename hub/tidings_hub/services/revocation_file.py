"""The file of revocations (`revocations_file`): what must not be forgotten when the broker loses its memory.

    {"tidings":"revocations","version":1}
    {"key":"user:7","until_s":1764090000.0}

A line is appended and synced to the disk for each revocation; the last end of a key counts. When most lines are
useless, a new file replaces this one in one step. Several processes of one machine may share the file: each
holds `<file>.lock` while it reads or writes. The calls block, so a thread of its own makes them.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Final

from tidings.errors import BadConfig
from tidings_hub import runtime
from tidings_hub.core.revocations.revoked import KEEP_ENDED_S, is_revocation

_HEAD: Final = b'{"tidings":"revocations","version":1}'
_LINE_MAX_BYTES: Final = 4_096
# Useless lines that are not worth a new file.
_USELESS_MAX: Final = 1_000
# Longest wait for another process that holds the lock. It needs milliseconds, unless it is stopped.
_LOCK_S: Final = 10.0
_LOCK_POLL_S: Final = 0.01
# eventlet's versions call its hub, which belongs to another thread.
_os = runtime.original("os")
_time = runtime.original("time")


class RevocationFile:
    """One process' view of the file. `entries_max`: revocations in the file; more are not saved."""

    def __init__(self, path: Path, *, entries_max: int, wall_s: Callable[[], float] = _time.time) -> None:
        self._path = path
        self._entries_max = entries_max
        self._wall_s = wall_s
        self._until_s: dict[str, float] = {}
        # What was read: the file, the bytes and the lines of it.
        self._inode = 0
        self._offset = 0
        self._lines = 0

    def load(self) -> dict[str, float]:
        """The revocations in the file, without those that ended two hours ago. Creates the file if it is missing.

        Raises:
            BadConfig: it cannot be read and written, or a line is not a revocation.
        """
        try:
            with self._open() as file:
                self._read(file)
        except OSError as error:
            raise BadConfig(
                f"revocations_file {self._path} cannot be read and written: {error.strerror or error};"
                " its folder must exist and belong to the hub's user"
            ) from error
        return self._not_past()

    def save(self, until_s: Mapping[str, float]) -> dict[str, float]:
        """Append these revocations; returns when they are on the disk. Returns those beyond `entries_max`.

        Raises:
            OSError: they could not be written. BadConfig: a line in the file is not a revocation.
        """
        with self._open() as file:
            self._read(file)
            now_s = self._wall_s()
            later = {
                key: end_s
                for key, end_s in until_s.items()
                if end_s > now_s - KEEP_ENDED_S and end_s > self._until_s.get(key, 0) and is_revocation(key, end_s)
            }
            fresh, left_out = self._within_bound(later, now_s)
            if fresh:
                self._append(file, fresh)
            if self._lines > 2 * len(self._until_s) + _USELESS_MAX:
                self._compact()
        return left_out

    def is_replaced(self) -> bool:
        """Whether the path no longer has what this process has read and written. Blocks.

        The file was deleted or made shorter, or another one is there: an older copy, or another process' new one.
        """
        try:
            status = _os.stat(self._path)
        except OSError:
            # The next `save` creates the file or raises.
            return True
        return bool(status.st_ino != self._inode or status.st_size < self._offset)

    def _not_past(self) -> dict[str, float]:
        """Those that may be in force: a clock that is wrong by up to two hours ends none for good."""
        past_s = self._wall_s() - KEEP_ENDED_S
        return {key: end_s for key, end_s in self._until_s.items() if end_s > past_s}

    def _within_bound(self, later: Mapping[str, float], now_s: float) -> tuple[dict[str, float], dict[str, float]]:
        room = self._entries_max - len(self._until_s)
        if sum(key not in self._until_s for key in later) > room:
            self._until_s = {key: end_s for key, end_s in self._until_s.items() if end_s > now_s}
            room = self._entries_max - len(self._until_s)
        fresh: dict[str, float] = {}
        left_out: dict[str, float] = {}
        for key, end_s in later.items():
            if key not in self._until_s:
                room -= 1
            (fresh if room >= 0 or key in self._until_s else left_out)[key] = end_s
        return fresh, left_out

    @contextmanager
    def _open(self) -> Iterator[FileIO]:
        """The file, while this process holds the lock."""
        lock = self._open_lock()
        try:
            with FileIO(_os.open(self._path, _os.O_RDWR | _os.O_CREAT | _os.O_CLOEXEC, 0o600), "r+b") as file:
                yield file
        finally:
            _os.close(lock)

    def _open_lock(self) -> int:
        """The descriptor of `<file>.lock`, locked. Not of a file that was deleted: other processes lock a new one."""
        path, end_s = f"{self._path}.lock", _time.monotonic() + _LOCK_S
        while True:
            descriptor = _os.open(path, _os.O_RDWR | _os.O_CREAT | _os.O_CLOEXEC, 0o600)
            try:
                _lock(descriptor, end_s)
                if _is_at(path, descriptor):
                    return int(descriptor)
            except BaseException:
                _os.close(descriptor)
                raise
            _os.close(descriptor)

    def _read(self, file: FileIO) -> None:
        """Read what this process does not know: lines of other processes, or a new file."""
        status = _os.fstat(file.fileno())
        if status.st_ino != self._inode or status.st_size < self._offset:
            self._until_s, self._inode, self._offset, self._lines = {}, status.st_ino, 0, 0
        if status.st_size == 0:
            self._write(file, _HEAD + b"\n")
            self._lines = 1
            _sync_folder(self._path)
            return
        file.seek(self._offset)
        content = file.readall()
        whole, newline, torn = content.rpartition(b"\n")
        lines = self._lines
        try:
            for line in whole.split(b"\n") if newline else ():
                self._read_line(line)
        except BadConfig:
            # The next call reads these lines again.
            self._lines = lines
            raise
        self._offset += len(whole) + len(newline)
        if torn:
            # The machine went down while this line was written. No caller received a reply for it.
            file.truncate(self._offset)

    def _read_line(self, line: bytes) -> None:
        self._lines += 1
        entry = _parse(line)
        if self._lines == 1 and line.rstrip() != _HEAD:
            raise BadConfig(f"revocations_file {self._path} is not a file of revocations; name another file")
        if self._lines > 1 and entry is None:
            raise BadConfig(
                f"revocations_file {self._path}: line {self._lines} is not a revocation;"
                " correct it or delete the line, then start again"
            )
        if entry is not None:
            key, until_s = entry
            self._until_s[key] = max(until_s, self._until_s.get(key, until_s))

    def _append(self, file: FileIO, fresh: Mapping[str, float]) -> None:
        self._write(file, b"".join(map(_line, fresh.items())))
        self._until_s.update(fresh)
        self._lines += len(fresh)

    def _write(self, file: FileIO, content: bytes) -> None:
        """Write and sync. After an error the file is as before."""
        file.seek(self._offset)
        try:
            _write_all(file, content)
            _os.fsync(file.fileno())
        except OSError:
            file.truncate(self._offset)
            raise
        self._offset += len(content)

    def _compact(self) -> None:
        """Replace the file by one without useless lines, in one atomic step."""
        active = self._not_past()
        content = _HEAD + b"\n" + b"".join(map(_line, active.items()))
        other = self._path.with_name(self._path.name + ".new")
        flags = _os.O_RDWR | _os.O_CREAT | _os.O_TRUNC | _os.O_CLOEXEC
        with FileIO(_os.open(other, flags, 0o600), "r+b") as file:
            _write_all(file, content)
            _os.fsync(file.fileno())
            inode = _os.fstat(file.fileno()).st_ino
        other.replace(self._path)
        _sync_folder(self._path)
        self._until_s, self._inode, self._offset, self._lines = active, inode, len(content), 1 + len(active)


def _lock(descriptor: int, end_s: float) -> None:
    """Lock the file. Raises BlockingIOError if another process holds it at `end_s`."""
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if _time.monotonic() >= end_s:
                raise
            _time.sleep(_LOCK_POLL_S)
        else:
            return


def _is_at(path: str, descriptor: int) -> bool:
    """Whether the open file is the one at `path`."""
    try:
        return bool(_os.stat(path).st_ino == _os.fstat(descriptor).st_ino)
    except FileNotFoundError:
        return False


def _parse(line: bytes) -> tuple[str, float] | None:
    try:
        fields = json.loads(line) if len(line) <= _LINE_MAX_BYTES else None
    except (ValueError, RecursionError):
        return None
    key, until_s = (fields.get("key"), fields.get("until_s")) if isinstance(fields, dict) else (None, None)
    return (str(key), float(until_s)) if is_revocation(key, until_s) and until_s is not None else None


def _line(entry: tuple[str, float]) -> bytes:
    key, until_s = entry
    return json.dumps({"key": key, "until_s": until_s}, separators=(",", ":")).encode() + b"\n"


def _write_all(file: FileIO, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[file.write(view) :]


def _sync_folder(path: Path) -> None:
    """Sync the folder, so that the name of the file outlives a power failure."""
    folder = _os.open(path.parent, _os.O_RDONLY | _os.O_DIRECTORY | _os.O_CLOEXEC)
    try:
        _os.fsync(folder)
    finally:
        _os.close(folder)
