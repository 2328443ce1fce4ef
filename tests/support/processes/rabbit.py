"""A RabbitMQ server for a test, on free ports, in a new folder, as the current user."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

from support.installed_programs import program
from support.network.certificates import Authority
from support.ports import free_port
from support.waiting import wait_until

# The program that /usr/sbin/rabbitmq-server starts as another user.
_SCRIPTS = ("/usr/lib/rabbitmq/bin/rabbitmq-server", "/opt/rabbitmq/sbin/rabbitmq-server")
_START_S = 60.0


def script() -> str:
    """The program that starts a server as the current user."""
    program("epmd")
    path = next((path for path in _SCRIPTS if Path(path).is_file()), None)
    return path or program("rabbitmq-server")


class RabbitProcess:
    """One RabbitMQ server; the user `guest` with the password `guest`, virtual host `/`. `folder` belongs to it.

    It starts its own Erlang name server (epmd). It keeps what is durable over `kill` and `start`. With an
    `authority` it also listens with TLS, on `tls_port`.
    """

    def __init__(self, folder: Path, *, authority: Authority | None = None) -> None:
        self._script = script()
        self.folder = folder
        self.authority = authority
        self.port, self.tls_port = free_port(), free_port()
        self._names_port, self._nodes_port = free_port(), free_port()
        self._names: subprocess.Popen[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._config = (
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\n"
            # Enough for every test. RabbitMQ must not block publishers on a machine with little memory.
            "vm_memory_high_watermark.absolute = 512MB\n"
            "disk_free_limit.absolute = 1MB\n"
            "log.console = false\n"
        )
        if authority is not None:
            certificate, key = authority.issue("rabbit")
            self._config += (
                f"listeners.ssl.1 = 127.0.0.1:{self.tls_port}\n"
                f"ssl_options.cacertfile = {authority.file}\n"
                f"ssl_options.certfile = {certificate}\n"
                f"ssl_options.keyfile = {key}\n"
                "ssl_options.verify = verify_none\n"
            )

    @property
    def url(self) -> str:
        """Its URL."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    @property
    def log(self) -> Path:
        """Its log."""
        return self.folder / "rabbit.log"

    def channel(self) -> Any:
        """A channel of kombu, to look at queues with; `close` its `connection.client` afterwards."""
        import kombu

        return kombu.Connection(self.url).channel()

    def count(self, queue: str) -> int:
        """Number of messages in a queue."""
        channel = self.channel()
        try:
            return int(channel.queue_declare(queue=queue, passive=True).message_count)
        finally:
            channel.connection.client.close()

    def take(self, queue: str) -> Any:
        """The next message of a queue (kombu's), acknowledged; None if there is none."""
        channel = self.channel()
        try:
            return channel.basic_get(queue, no_ack=True)
        finally:
            channel.connection.client.close()

    def delete(self, queue: str) -> None:
        """Delete a queue with what it holds."""
        channel = self.channel()
        try:
            channel.queue_delete(queue)
        finally:
            channel.connection.client.close()

    def make_queue(self, queue: str, **arguments: object) -> None:
        """Declare a durable queue."""
        channel = self.channel()
        client = channel.connection.client
        try:
            channel.queue_declare(queue=queue, durable=True, auto_delete=False, arguments=arguments)
        finally:
            client.close()

    def start(self) -> RabbitProcess:
        """Start or restart it with its data, and wait until it accepts connections."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "rabbitmq.conf").write_text(self._config)
        (self.folder / "enabled_plugins").write_text("[].\n")
        environment = self._environment()
        if self._names is None:
            self._names = self._run(["epmd", "-port", str(self._names_port), "-address", "127.0.0.1"], environment)
            wait_until(lambda: _accepts(self._names_port), why="epmd answers")
        self._process = self._run([self._script], environment)
        wait_until(self._answers, within_s=_START_S, why="RabbitMQ answers")
        return self

    def _environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RABBITMQ_", "ERL_"))}
        return inherited | {
            # Erlang keeps its cookie here.
            "HOME": str(self.folder),
            "ERL_EPMD_PORT": str(self._names_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"test{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(self._nodes_port),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(self.folder / "none"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(self.folder / "schema"),
            # The script uses exec, so that its process id is that of the server.
            "RUNNING_UNDER_SYSTEMD": "true",
            # One scheduler that sleeps when idle, because tests share their machine.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none",
        }

    def set_alarm(self, *, on: bool) -> None:
        """Raise or clear the memory alarm, during which RabbitMQ blocks publishers."""
        self._control("set_vm_memory_high_watermark", *(["0"] if on else ["absolute", "512MB"]))

    def set_consumer_timeout(self, seconds: float | None) -> None:
        """Set how long new channels may hold a message, and check it often; None: half an hour, its default."""
        timeout_ms, check_ms = (1_800_000, 60_000) if seconds is None else (int(seconds * 1000), 300)
        self._control(
            "eval",
            f"application:set_env(rabbit, consumer_timeout, {timeout_ms}),"
            f" application:set_env(rabbit, channel_tick_interval, {check_ms}).",
        )

    def set_max_message_size(self, size_bytes: int | None) -> None:
        """Set the largest message that new channels accept; None: 128 MiB, its default."""
        size_bytes = 134_217_728 if size_bytes is None else size_bytes
        self._control("eval", f"application:set_env(rabbit, max_message_size, {size_bytes}).")

    def _control(self, *command: str) -> None:
        control = Path(self._script).with_name("rabbitmqctl")
        subprocess.run(
            [str(control), *command],
            check=True,
            capture_output=True,
            env=self._environment(),
            cwd=self.folder,
            timeout=60,
        )

    def _run(self, command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, cwd=self.folder
            )

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"RabbitMQ did not start: {self.log.read_text(errors='replace')[-2000:]}")
        return _accepts(self.port, b"AMQP\x00\x00\x09\x01")

    def kill(self) -> None:
        """Send SIGKILL. It does not lose confirmed messages."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(timeout=20)

    def pause(self) -> None:
        """Send SIGSTOP: connections stay open, and it does not respond."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Send SIGCONT."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Kill it and its name server. Idempotent."""
        for process in (self._process, self._names):
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
                process.wait(timeout=20)


def _accepts(port: int, greeting: bytes = b"") -> bool:
    """Whether a server accepts connections on `port` and, if a greeting is given, replies to it."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as probe:
            if greeting:
                probe.sendall(greeting)
                return bool(probe.recv(1))
            return True
    except OSError:
        return False
