"""nginx in front of the nodes of a test, and its configuration."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

from support.installed_programs import program
from support.ports import free_port
from support.waiting import wait_until

# A session id begins with the name of its node, and nginx routes by it. New sessions are distributed round robin.
# With max_fails=0 each request tries a node that was down, so it gets requests as soon as it listens.
_CONFIG = """
daemon off;
worker_processes 1;
worker_rlimit_nofile 8192;
worker_shutdown_timeout {shutdown_s}s;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    scgi_temp_path {folder}/scgi;
    uwsgi_temp_path {folder}/uwsgi;
    map $http_upgrade $connection_header {{ default upgrade; "" ""; }}
    map $arg_sid $node {{
        default any;
{routes}
    }}
    upstream any {{
{servers}
        keepalive 64;
    }}
{nodes}
    server {{
        listen 127.0.0.1:{port} backlog=2048;
        location / {{
            proxy_pass http://$node;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_header;
            proxy_buffering off;
            proxy_connect_timeout 1s;
            proxy_read_timeout 60s;
            proxy_next_upstream error timeout http_503;
        }}
    }}
}}
"""


class Nginx:
    """One nginx that routes to nodes by their names."""

    def __init__(self, folder: Path, nodes: Mapping[str, int], *, shutdown_s: int = 5) -> None:
        self.port = free_port()
        self._folder = folder
        self._program = program("nginx")
        self._process: subprocess.Popen[bytes] | None = None
        text = _CONFIG.format(
            folder=folder,
            port=self.port,
            shutdown_s=shutdown_s,
            routes="\n".join(f'        "~^{name}" {name};' for name in nodes),
            servers="\n".join(f"        server 127.0.0.1:{port} max_fails=0;" for port in nodes.values()),
            nodes="\n".join(
                f"    upstream {name} {{ server 127.0.0.1:{port} max_fails=0; keepalive 64; }}"
                for name, port in nodes.items()
            ),
        )
        (folder / "nginx.conf").write_text(text)

    def _command(self) -> list[str]:
        return [self._program, "-p", str(self._folder), "-c", str(self._folder / "nginx.conf"), "-e", "stderr"]

    def start(self) -> Nginx:
        """Start it and wait until it listens."""
        with (self._folder / "stderr.log").open("ab") as log:
            self._process = subprocess.Popen(self._command(), stdout=log, stderr=log)
        wait_until((self._folder / "nginx.pid").exists, why=f"nginx started: {self._folder / 'stderr.log'}")
        return self

    def reload(self) -> None:
        """Reload the configuration. New workers start, and the old ones end with their connections."""
        subprocess.run([*self._command(), "-s", "reload"], check=True, capture_output=True)

    def restart(self) -> None:
        """Stop nginx immediately and start it again."""
        self.stop()
        self.start()

    def pids(self) -> list[int]:
        """Process ids of the master and the workers."""
        assert self._process is not None
        master = self._process.pid
        return [master, *(pid for pid, parent in _parents().items() if parent == master)]

    def stop(self) -> None:
        """Stop nginx. Idempotent."""
        if self._process is not None and self._process.poll() is None:
            workers = self.pids()[1:]
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(timeout=20)
            wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), why="nginx' workers ended")
        (self._folder / "nginx.pid").unlink(missing_ok=True)


def _parents() -> dict[int, int]:
    """The parent of every process (proc(5), stat: the fields after the name in brackets)."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        # A process may end at any time.
        with contextlib.suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    return parents
