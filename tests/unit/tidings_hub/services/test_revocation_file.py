from __future__ import annotations

import fcntl
import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.processes.hub import environment
from support.waiting import stay_quiet, wait_until
from tidings.errors import BadConfig
from tidings_hub.services import revocation_file
from tidings_hub.services.revocation_file import RevocationFile

HEAD = '{"tidings":"revocations","version":1}\n'
LINE = '{"key":"user:a","until_s":90.0}\n'
WRITER = """
import sys
from pathlib import Path
from tidings_hub.services.revocation_file import RevocationFile
file = RevocationFile(Path(sys.argv[1]), entries_max=100_000, wall_s=lambda: 10.0)
for number in range(200):
    file.save({f"user:{sys.argv[2]}-{number}": 90.0, "user:shared": 20.0 + number})
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "revocations"


def opened(path: Path, *, now_s: float = 10.0, entries_max: int = 100) -> RevocationFile:
    return RevocationFile(path, entries_max=entries_max, wall_s=lambda: now_s)


def open_count(path: Path) -> int:
    """How often this process has the file open."""
    inode = path.stat().st_ino
    descriptors = [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]
    return sum(inode_of(descriptor) == inode for descriptor in descriptors)


def inode_of(descriptor: int) -> int | None:
    try:
        return os.fstat(descriptor).st_ino
    except OSError:
        # Closed by now: the one that listed the folder.
        return None


@contextmanager
def files_of_at_most(size_bytes: int) -> Iterator[None]:
    """As on a full disk, a write beyond that size of a file fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class TestReadBack:
    def test_saved_revocations_are_loaded_again(self, path: Path) -> None:
        assert opened(path).load() == {}
        file = opened(path)
        assert file.save({"user:a": 90.0, "jti:ü": 80.5}) == {}
        file.save({"user:a": 95.0})
        assert opened(path).load() == {"user:a": 95.0, "jti:ü": 80.5}
        assert opened(path, now_s=7_285.0).load() == {"user:a": 95.0}

    def test_only_what_is_new_or_ends_later_is_written(self, path: Path) -> None:
        file = opened(path)
        file.save({"user:a": 90.0})
        size = path.stat().st_size
        file.save({"user:a": 90.0})
        file.save({"user:a": 80.0, "user:past": -7_190.0})
        opened(path).save({"user:a": 90.0})
        assert path.stat().st_size == size

    def test_file_is_readable_by_its_user_alone(self, path: Path) -> None:
        opened(path).load()
        assert path.stat().st_mode & 0o777 == 0o600

    def test_an_empty_file_is_a_new_one(self, path: Path) -> None:
        path.touch()
        opened(path).save({"user:a": 90.0})
        assert path.read_text() == HEAD + LINE


class TestDamage:
    @pytest.mark.parametrize("torn", ['{"key":"user:b","un', "{", "\x00\x00"])
    def test_line_that_a_power_failure_cut_is_dropped(self, path: Path, torn: str) -> None:
        path.write_text(HEAD + LINE + torn)
        file = opened(path)
        assert file.load() == {"user:a": 90.0}
        file.save({"user:c": 90.0})
        assert opened(path).load() == {"user:a": 90.0, "user:c": 90.0}

    @pytest.mark.parametrize(
        "line",
        [
            "",
            "{",
            "[]",
            "null",
            "[" * 3_000,
            '{"key":"user:a"}',
            '{"key":"a","until_s":9.0}',
            '{"key":7,"until_s":9.0}',
            '{"key":"user:a","until_s":"9"}',
            '{"key":"user:a","until_s":true}',
            '{"key":"user:a","until_s":NaN}',
            '{"key":"user:a","until_s":1e999}',
            '{"key":"user:a","until_s":1%s}' % ("0" * 400),
            '{"key":"user:%s","until_s":9.0}' % ("a" * 5_000),
            "\ufffd\x00",
        ],
        ids=lambda line: ascii(line[:24]),
    )
    def test_line_that_is_no_revocation_is_an_error_with_its_number(self, path: Path, line: str) -> None:
        path.write_text(HEAD + LINE + line + "\n" + LINE)
        before = path.read_bytes()
        with pytest.raises(BadConfig, match="line 3 is not a revocation"):
            opened(path).load()
        with pytest.raises(BadConfig):
            opened(path).save({"user:b": 90.0})
        assert path.read_bytes() == before, "the evidence stays"

    @pytest.mark.parametrize("content", ["[hub]\nname = 1\n", LINE, '{"tidings":"revocations","version":2}\n', "\n"])
    def test_another_file_is_an_error(self, path: Path, content: str) -> None:
        path.write_text(content)
        with pytest.raises(BadConfig, match="is not a file of revocations"):
            opened(path).load()
        assert path.read_text() == content

    def test_path_that_cannot_be_written_is_an_error(self, path: Path) -> None:
        for wrong in (path / "missing" / "file", Path("/proc/revocations"), path.parent):
            with pytest.raises(BadConfig, match="cannot be read and written"):
                opened(wrong).load()

    def test_lock_of_a_stopped_process_is_an_error(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(revocation_file, "_LOCK_S", 0.05)
        file = opened(path)
        file.load()
        with Path(f"{path}.lock").open("wb") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            with pytest.raises(BadConfig, match="cannot be read and written"):
                file.load()
        assert file.load() == {}


class TestFullDisk:
    def test_failed_write_leaves_the_file_as_it_was(self, path: Path) -> None:
        file = opened(path)
        file.save({"user:a": 90.0})
        before = path.read_bytes()
        with files_of_at_most(len(before) + 10), pytest.raises(OSError, match="large"):
            file.save({"user:b": 90.0})
        assert path.read_bytes() == before
        file.save({"user:b": 90.0})
        assert opened(path).load() == {"user:a": 90.0, "user:b": 90.0}

    def test_failed_compaction_loses_nothing(self, path: Path) -> None:
        file = opened(path)
        Path(f"{path}.new").mkdir()
        with pytest.raises(OSError, match="directory"):  # noqa: PT012 - the save that compacts is one of many
            for end_s in range(20, 1_100):
                saved_s = float(end_s)
                file.save({"user:a": saved_s})
        assert opened(path).load() == {"user:a": saved_s}


class TestBounds:
    def test_file_stays_small_when_revocations_are_prolonged(self, path: Path) -> None:
        file = opened(path)
        for end_s in range(20, 3_020):
            file.save({"user:a": float(end_s)})
        assert len(path.read_bytes().splitlines()) < 1_100
        assert opened(path).load() == {"user:a": 3_019.0}
        assert not Path(f"{path}.new").exists()

    def test_revocations_beyond_the_bound_are_returned(self, path: Path) -> None:
        file = opened(path, entries_max=3)
        many = {f"user:{number}": 90.0 for number in range(5)}
        assert file.save(many) == {"user:3": 90.0, "user:4": 90.0}
        assert file.save({"user:0": 95.0, "user:3": 90.0}) == {"user:3": 90.0}
        assert opened(path).load() == {"user:0": 95.0, "user:1": 90.0, "user:2": 90.0}

    def test_ended_revocations_make_room(self, path: Path) -> None:
        opened(path, entries_max=2).save({"user:a": 20.0, "user:b": 90.0})
        late = opened(path, entries_max=2, now_s=30.0)
        assert late.save({"user:c": 90.0}) == {}
        assert opened(path, now_s=7_225.0).load() == {"user:b": 90.0, "user:c": 90.0}

    def test_what_would_make_the_file_unreadable_is_not_written(self, path: Path) -> None:
        opened(path).save({"": 90.0, "ann": 90.0, f"jti:{'a' * 5_000}": 90.0, "user:a": 90.0})
        assert path.read_text() == HEAD + LINE


class TestClocks:
    """A clock that is ahead by up to two hours, and goes back, ends no revocation for good."""

    def test_revocation_that_is_saved_meanwhile(self, path: Path) -> None:
        opened(path, now_s=3_600.0).save({"user:a": 90.0})
        assert opened(path).load() == {"user:a": 90.0}

    def test_file_that_is_loaded_meanwhile(self, path: Path) -> None:
        opened(path).save({"user:a": 90.0})
        assert opened(path, now_s=3_600.0).load() == {"user:a": 90.0}

    def test_file_that_is_made_smaller_meanwhile(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(revocation_file, "_USELESS_MAX", 10)
        opened(path).save({"user:a": 90.0})
        file = opened(path, now_s=3_600.0)
        for end_s in range(4_000, 4_020):
            file.save({"user:b": float(end_s)})
        assert len(path.read_bytes().splitlines()) < 18
        assert opened(path).load() == {"user:a": 90.0, "user:b": 4_019.0}


class TestSharing:
    def test_process_continues_after_another_one_replaced_the_file(self, path: Path) -> None:
        first, second = opened(path), opened(path)
        first.save({"user:a": 90.0})
        for end_s in range(20, 1_100):
            second.save({"user:b": float(end_s)})
        first.save({"user:c": 90.0})
        assert opened(path).load() == {"user:a": 90.0, "user:b": 1_099.0, "user:c": 90.0}

    def test_several_processes_lose_nothing(self, path: Path) -> None:
        programs = [
            subprocess.Popen([sys.executable, "-c", WRITER, str(path), name], env=environment()) for name in "abc"
        ]
        assert [program.wait(60) for program in programs] == [0, 0, 0]
        own = {f"user:{name}-{number}": 90.0 for name in "abc" for number in range(200)}
        assert opened(path).load() == {**own, "user:shared": 219.0}
        assert all(json.loads(line) for line in path.read_text().splitlines())

    @pytest.mark.parametrize("change", ["deleted", "emptied", "older copy", "its folder is gone"])
    def test_file_that_a_person_changes_is_noticed(self, path: Path, change: str) -> None:
        file = opened(path)
        file.load()
        older = path.read_text()
        file.save({"user:a": 90.0})
        assert not file.is_replaced()
        if change == "deleted":
            path.unlink()
        elif change == "its folder is gone":
            path.parent.rename(path.parent.with_name("elsewhere"))
            assert file.is_replaced()
            path.parent.mkdir()
        else:
            path.write_text("" if change == "emptied" else older)
        assert file.is_replaced()
        file.save({"user:a": 90.0})
        assert opened(path).load() == {"user:a": 90.0}
        assert not file.is_replaced()

    def test_wrong_line_keeps_its_number_until_it_is_corrected(self, path: Path) -> None:
        file = opened(path)
        file.save({"user:a": 90.0})
        with path.open("a") as other:
            other.write("nonsense\n")
        for _ in range(3):
            with pytest.raises(BadConfig, match="line 3 is not a revocation"):
                file.save({"user:b": 90.0})
        path.write_text(path.read_text().replace("nonsense\n", ""))
        file.save({"user:b": 90.0})
        assert opened(path).load() == {"user:a": 90.0, "user:b": 90.0}

    def test_lock_that_is_deleted_meanwhile_is_not_used(self, path: Path) -> None:
        file = opened(path)
        file.save({"user:a": 90.0})
        lock = path.with_name(f"{path.name}.lock")
        with lock.open() as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            saving = threading.Thread(target=file.save, args=({"user:b": 90.0},))
            saving.start()
            wait_until(lambda: open_count(lock) == 2, why="it waits for the lock")
            lock.unlink()
            with lock.open("w") as held_later:
                fcntl.flock(held_later, fcntl.LOCK_EX)
                fcntl.flock(held, fcntl.LOCK_UN)
                stay_quiet()
                assert path.read_text().count("user:b") == 0
            saving.join(20)
        assert opened(path).load() == {"user:a": 90.0, "user:b": 90.0}
