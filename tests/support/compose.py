"""docker-compose.yml without containers: its commands, environment, files and health checks, as local processes.

The tests run without a container engine. This module reads the compose file and the Dockerfile and starts the same
programs. `Service.local` is the only place that changes anything:
- A port of a service becomes a free port of the loopback, and its address becomes 127.0.0.1.
- A folder of its container becomes a folder of the test.
- A file that the image copies becomes the file of this tree.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from support.installed_programs import program
from support.ports import free_port
from support.processes.nginx import as_root
from support.waiting import wait_until

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"
SECRETS = {
    "TIDINGS_SECRET": "7d4f0e6b1c9a82536f0d4e7b8a91c2350f6e4d7b8c9a0123",
    "TIDINGS_API_KEY": "0b2d4f6a8c1e3057920b4d6f8a1c3e50",
    "REDIS_PASSWORD": "a1b2c3d4e5f60718293a4b5c6d7e8f90",
}
_VARIABLE = re.compile(r"\$(?:(\$)|\{(\w+)(?:(:\?|:-)([^}]*))?\})")
# Paths in the images, and their replacements here.
_PROGRAMS = {
    "tidings": [sys.executable, "-m", "tidings_hub"],
    "gunicorn": [sys.executable, "-m", "gunicorn"],
    "python": [sys.executable],
}


def interpolated(value: Any, variables: Mapping[str, str]) -> Any:
    """A value of the compose file with its variables filled in, as compose does it."""
    if isinstance(value, dict):
        return {key: interpolated(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [interpolated(item, variables) for item in value]
    return _VARIABLE.sub(lambda match: _variable(match, variables), value) if isinstance(value, str) else value


def _variable(match: re.Match[str], variables: Mapping[str, str]) -> str:
    dollar, name, operator, rest = match.groups()
    if dollar:
        return "$"
    value = variables.get(name, "")
    if not value and operator != ":-":
        raise AssertionError(f"{name}: {rest}")
    return value or str(rest)


def stages() -> dict[str, dict[str, Path]]:
    """What each stage of the Dockerfile copies: place in the image -> file or folder of this tree."""
    files: dict[str, dict[str, Path]] = {}
    stage = ""
    for line in (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["FROM"]:
            stage = words[3]
            files[stage] = {}
        elif words[:1] == ["COPY"]:
            *sources, target = [word for word in words[1:] if not word.startswith("--")]
            for source in sources:
                place = ROOT / source.removeprefix("/src/")
                if place.exists():
                    files[stage][target.rstrip("/")] = place
    return files


class Service:
    """One service of the compose file."""

    def __init__(self, name: str, spec: dict[str, Any], composition: Composition) -> None:
        self.name = name
        self.spec = spec
        self.folder = composition.folder / name
        self.folder.mkdir()
        self.log = self.folder / "log"
        self._composition = composition
        self._copied = stages()[spec["build"]["target"]]
        self._process: subprocess.Popen[bytes] | None = None

    def local(self, text: str, *, name: str = "") -> str:
        """Adapt a text to this machine; `name` is the variable with this value."""
        if name.endswith("_PORT"):
            return str(self._composition.port(self.name, int(text)))
        return self._composition.pattern(self).sub(self._replaced, text)

    def _replaced(self, match: re.Match[str]) -> str:
        port_flag, port, host, host_port, address, path = match.group(
            "flag", "port", "host", "hport", "address", "path"
        )
        if port_flag:
            return f"{port_flag}{self._composition.port(self.name, int(port))}"
        if host:
            owner = self._composition.owner(host) or self.name
            return f"127.0.0.1:{self._composition.port(owner, int(host_port))}"
        return "127.0.0.1" if address else str(self._place(path))

    def _place(self, path: str) -> Path:
        if path in self._copied:
            return self._copied[path]
        place = self.folder / path.lstrip("/").replace("/", "_")
        place.mkdir(exist_ok=True)
        return place

    def paths(self) -> list[str]:
        """Paths in the container that are not from the base image: volumes, tmpfs, copied files, logs."""
        mounted = [str(volume).split(":") for volume in self.spec.get("volumes", [])]
        tmpfs = [str(mount).split(":")[0] for mount in self.spec.get("tmpfs", [])]
        return [*self._copied, *[parts[1] for parts in mounted], *tmpfs, "/var/log/nginx"]

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the command and of the health check."""
        environment = {
            name: self.local(str(value), name=name) for name, value in self.spec.get("environment", {}).items()
        }
        sources = f"{ROOT / 'hub'}:{ROOT / 'adapters'}"
        return {"PATH": os.environ["PATH"], "HOME": str(self.folder), "PYTHONPATH": sources} | environment

    def argv(self, command: list[str]) -> list[str]:
        """A command of this service, adapted to this machine."""
        first, *rest = command
        return [*_PROGRAMS.get(first, [first]), *[self.local(argument) for argument in rest]]

    def start(self, command: list[str] | None = None) -> Service:
        """Start its command."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command or self.argv(self.spec["command"]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment,
                cwd=self.folder,
                start_new_session=True,
            )
        return self

    def wait_healthy(self) -> Service:
        """Wait until its own health check succeeds."""
        kind, *test = self.spec["healthcheck"]["test"]
        command = self.argv(test) if kind == "CMD" else ["sh", "-c", self.local(test[0])]

        def healthy() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, f"{self.name} ended: {self.log.read_text()[-2000:]}"
            done = subprocess.run(command, env=self.environment, capture_output=True, timeout=30, check=False)
            return done.returncode == 0

        wait_until(healthy, within_s=60, why=f"{self.name} is healthy")
        return self

    def wait(self) -> int:
        """Wait until it has ended; return the exit code."""
        assert self._process is not None
        return self._process.wait(timeout=60)

    def stop(self) -> None:
        """Kill it and its children if necessary. Idempotent."""
        if self._process is not None:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(timeout=20)

    @property
    def port(self) -> int:
        """The port that other services connect to."""
        return self._composition.only_port(self.name)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"


class Composition:
    """All services. `variables` are those of .env and of the shell."""

    def __init__(self, folder: Path, variables: Mapping[str, str] = SECRETS) -> None:
        self.folder = folder
        self.spec = interpolated(yaml.safe_load(FILE.read_text(encoding="utf-8")), variables)
        self._ports: dict[tuple[str, int], int] = {}
        self._owners: dict[str, str] = {}
        for name, service in self.spec["services"].items():
            self._owners[name] = name
            for network in service["networks"].values():
                if network:
                    self._owners[network["ipv4_address"]] = name
        self.services = {name: Service(name, spec, self) for name, spec in self.spec["services"].items()}

    def __getitem__(self, name: str) -> Service:
        return self.services[name]

    def owner(self, host: str) -> str | None:
        """The service with a host name or address."""
        return self._owners.get(host)

    def port(self, service: str, inside: int) -> int:
        """The port here for a port inside a container."""
        if (service, inside) not in self._ports:
            self._ports[service, inside] = free_port()
        return self._ports[service, inside]

    def only_port(self, service: str) -> int:
        """The only known port of a service."""
        (port,) = [port for (name, _), port in self._ports.items() if name == service]
        return port

    def pattern(self, service: Service) -> re.Pattern[str]:
        """One pattern for all replacements, so that nothing is replaced twice."""
        hosts = "|".join(re.escape(host) for host in [*self._owners, "0.0.0.0", "127.0.0.1"])
        addresses = "|".join(re.escape(host) for host in [*self._owners, "0.0.0.0"] if host[0].isdigit())
        paths = "|".join(re.escape(path) for path in sorted(service.paths(), key=len, reverse=True))
        return re.compile(
            rf"(?P<flag>(?:--port|-p|listen) )(?P<port>\d+)|(?<![\w.-])(?P<host>{hosts}):(?P<hport>\d+)"
            rf"|(?<![\w.-])(?P<address>{addresses})(?![\w.:])|(?<![\w.-])(?P<path>{paths})(?![\w.-])"
        )

    def in_order(self) -> Iterator[list[Service]]:
        """The services in groups, in order of start: each service comes after those that it depends on."""
        left = dict(self.services)
        while left:
            ready = [name for name, service in left.items() if not set(service.spec.get("depends_on", {})) & set(left)]
            yield [left.pop(name) for name in ready]

    def start(self) -> Composition:
        """Start everything, as `docker compose up` does."""
        for together in self.in_order():
            for service in together:
                if service.name == "nginx":
                    start_nginx(service)
                else:
                    service.start()
            for service in together:
                service.wait_healthy()
        return self

    def stop(self) -> None:
        """End everything. Idempotent."""
        for service in self.services.values():
            service.stop()


def start_nginx(service: Service) -> None:
    """Run envsubst over the templates, like the entrypoint of the image, and then nginx."""
    conf = Path(service.local("/etc/nginx/conf.d"))
    for name, text in rendered(service).items():
        conf.joinpath(name).write_text(service.local(text))
    main = service.folder / "nginx.conf"
    main.write_text(as_root() + service.local(Path(service.local("/etc/nginx/nginx.conf")).read_text()))
    service.local("/var/log/nginx")
    command = [program("nginx"), "-c", str(main), "-e", str(service.folder / "error.log")]
    service.start([*command, *service.argv(service.spec["command"])[1:]])


def rendered(service: Service) -> dict[str, str]:
    """20-envsubst-on-templates.sh of the official image: the variables whose names match the filter, and no others."""
    environment = {name: str(value) for name, value in service.spec["environment"].items()}
    names = [name for name in environment if re.search(environment["NGINX_ENVSUBST_FILTER"], name)]
    formats = " ".join(f"${{{name}}}" for name in names)
    done = {}
    for source in Path(service.local("/etc/nginx/templates")).glob("*.template"):
        done[source.stem] = subprocess.run(
            [program("envsubst"), formats],
            input=source.read_text(encoding="utf-8"),
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        ).stdout
    return done
