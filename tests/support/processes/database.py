"""Database servers for single tests: PostgreSQL, MariaDB and SQLite, each in a new folder and without a port."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from support.installed_programs import program
from support.waiting import wait_until

KINDS = ["sqlite", "postgresql", "mariadb"]
# Databases that allow two concurrent writers.
CONCURRENT = ["postgresql", "mariadb"]


class Database:
    """One database. Backends and relays use its `url`."""

    kind = ""

    def __init__(self) -> None:
        # Not the folder of pytest, which only its user may enter: the servers do not run as root.
        self.folder = Path(tempfile.mkdtemp(prefix="tidings-db-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._owner: dict[str, Any] = {}
        if os.getuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
            self._owner = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}

    @property
    def url(self) -> str:
        """Its URL."""
        raise NotImplementedError

    def engine(self) -> sa.Engine:
        """An engine without a pool, so that no connection stays open."""
        return sa.create_engine(self.url, poolclass=sa.NullPool)

    def answers(self) -> bool:
        """Whether it accepts queries."""
        try:
            with self.engine().connect() as connection:
                return bool(connection.scalar(sa.text("SELECT 1")) == 1)
        except sa.exc.OperationalError:
            return False

    def start(self) -> Database:
        """Start it and wait until it accepts queries."""
        return self

    def stop(self) -> None:
        """Kill it and remove its folder."""
        self.kill()
        shutil.rmtree(self.folder)

    def kill(self) -> None:
        """SIGKILL. Idempotent."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(20)
            self._process = None

    def _run(self, *command: str) -> None:
        done = subprocess.run(
            command, capture_output=True, cwd=self.folder, timeout=90, check=False, text=True, **self._owner
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def _launch(self, *command: str) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder, **self._owner)
        wait_until(self.answers, why=f"{command[0]} answers")


class Sqlite(Database):
    """An SQLite file."""

    kind = "sqlite"

    @property
    def url(self) -> str:
        """Its URL."""
        return f"sqlite:///{self.folder}/shop.db"

    def engine(self) -> sa.Engine:
        """As for other databases. A writer waits for the lock as long as a relay does, not only five seconds."""
        return sa.create_engine(self.url, poolclass=sa.NullPool, connect_args={"timeout": 30})


class Postgresql(Database):
    """One server, only on a UNIX socket in its folder."""

    kind = "postgresql"
    # Tests kill processes, not machines.
    fsync = "off"

    @property
    def url(self) -> str:
        """Its URL."""
        return f"postgresql+psycopg://tidings@/postgres?host={self.folder}"

    def start(self) -> Postgresql:
        """Start or restart it and wait until it accepts queries."""
        data = self.folder / "data"
        if not data.exists():
            self._run(_postgres("initdb"), "-D", str(data), "-U", "tidings", "-A", "trust", "--no-sync", "-E", "UTF8")
        # A killed server leaves this file behind.
        (data / "postmaster.pid").unlink(missing_ok=True)
        options = [
            "listen_addresses=",
            f"unix_socket_directories={self.folder}",
            f"fsync={self.fsync}",
            "max_wal_size=64MB",
        ]
        settings = [part for option in options for part in ("-c", option)]
        self._launch(_postgres("postgres"), "-D", str(data), *settings)
        return self

    def kill(self) -> None:
        """Send SIGQUIT, which ends all its processes immediately. It recovers at the next start."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(20)
            self._process = None


class Mariadb(Database):
    """One server, only on a UNIX socket in its folder."""

    kind = "mariadb"

    @property
    def url(self) -> str:
        """Its URL."""
        return f"mariadb+pymysql://root@localhost/test?unix_socket={self.folder}/socket"

    def answers(self) -> bool:
        """Whether it sends its greeting. The driver is not used, because it leaks rejected sockets."""
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(5)
            return probe.connect_ex(f"{self.folder}/socket") == 0 and len(probe.recv(64)) > 0

    def start(self) -> Mariadb:
        """Start or restart it and wait until it accepts queries."""
        data, server = self.folder / "data", program("mariadbd")
        if not data.exists():
            self._run(
                *(program("mariadb-install-db"), "--no-defaults", f"--datadir={data}"),
                "--auth-root-authentication-method=normal",
            )
        self._launch(
            *(server, "--no-defaults", f"--datadir={data}", f"--socket={self.folder}/socket", "--skip-networking"),
            *("--innodb-flush-log-at-trx-commit=0", f"--pid-file={self.folder}/pid", "--innodb-buffer-pool-size=32M"),
        )
        return self


def _postgres(name: str) -> str:
    """The path of a program of the server, which Debian does not put into PATH."""
    paths = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(paths[-1]) if paths else program(name)


def start_database(kind: str) -> Database:
    """Start a database of this kind."""
    kinds: dict[str, type[Database]] = {kind.kind: kind for kind in (Sqlite, Postgresql, Mariadb)}
    database = kinds[kind]()
    try:
        return database.start()
    except BaseException:
        database.stop()
        raise


def new_table() -> str:
    """A table name that no other test uses."""
    return f"outbox_{secrets.token_hex(4)}"
