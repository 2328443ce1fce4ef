"""`tidings nginx` prints a configuration that nginx accepts and that docker-compose builds from the same template."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from support.compose import SECRETS, Composition, rendered
from support.processes.hub import ROOT, environment
from support.processes.nginx import certificate, check, write_config
from tidings_hub.cli import main

NODES = ["--node", "n1=172.31.251.21:8000", "--node", "n2=172.31.251.22:8000"]
Output = pytest.CaptureFixture[str]


def print_config(capsys: Output, *arguments: str) -> str:
    """Run the command and return its output."""
    assert main(["nginx", *arguments]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("routing", ["ip", "sid"])
def test_output_equals_the_configuration_of_docker_compose(routing: str, tmp_path: Path, capsys: Output) -> None:
    service = Composition(tmp_path, SECRETS | {"PROXY_ROUTING": routing})["nginx"]
    of_compose = rendered(service)["tidings.conf"]
    more = ["--port", "8080", "--app", "172.31.251.30:8000", "--static", "/usr/share/nginx/static"]
    assert print_config(capsys, *NODES, "--routing", routing, *more) == of_compose
    assert "${PROXY_ROUTING}" not in of_compose


@pytest.mark.parametrize(
    "arguments",
    [
        ["--node", "one=127.0.0.1:8001"],
        [*NODES, "--node", "n3=[::1]:8003", "--node", "a_-4=hub-4.localhost:8004", "--routing", "sid"],
        [*NODES, "--server-name", "push.shop.example *.shop.example", "--port", "8080"],
    ],
    ids=["one", "four", "names"],
)
def test_nginx_accepts_the_output(arguments: list[str], tmp_path: Path, capsys: Output) -> None:
    text = print_config(capsys, *arguments)
    check(write_config(tmp_path, text.replace("hub-4.localhost", "127.0.0.4")))
    nodes = [argument for argument in arguments if "=" in argument]
    for node in nodes:
        id, _, address = node.partition("=")
        assert text.count(f"server {address} ") == 3
        assert text.count(f'"~^{id}(?:-[0-9]{{1,3}})?[A-Za-z0-9_-]{{20}}$" _of_{id};') == 1
    assert text.count("    server ") == 2 * len(nodes)


def test_nginx_accepts_the_tls_example(tmp_path: Path, capsys: Output) -> None:
    chain, key = certificate(tmp_path)
    text = print_config(capsys, *NODES, "--certificate", chain, "--key", key, "--server-name", "push.shop.example")
    check(write_config(tmp_path, text))
    assert "#tls" not in text.partition("map $http_upgrade")[2].partition("server {")[2]
    assert text.count("listen 80 ") == text.count("listen 443 ssl ") == 1


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--node", "10.0.0.1:8000"], "n1=10.0.0.1:8000"),
        (["--node", "=10.0.0.1:8000"], "node's id"),
        (["--node", "n 1=10.0.0.1:8000"], "node's id"),
        (["--node", "n1;=10.0.0.1:8000"], "node's id"),
        (["--node", f"{'n' * 33}=10.0.0.1:8000"], "node's id"),
        (["--node", "n1="], "host:port"),
        (["--node", "n1=10.0.0.1"], "host:port"),
        (["--node", "n1=10.0.0.1:"], "port"),
        (["--node", "n1=10.0.0.1:0"], "port"),
        (["--node", "n1=10.0.0.1:65536"], "port"),
        (["--node", "n1=10.0.0.1:٨٠"], "port"),
        (["--node", "n1=::1:8000"], "host:port"),
        (["--node", "n1=[::x]:8000"], "host:port"),
        (["--node", "n1=h;evil:8000"], "host:port"),
        (["--node", "n1=$host:8000"], "host:port"),
        (["--node", "n1=http://h:8000"], "host:port"),
        (["--node", "n1=-h:8000"], "host:port"),
        (["--node", "n1=h:8000\n"], "port"),
        (["--node", "n1=a:1", "--node", "n1=b:1"], "twice"),
        (["--node", "n1=a:1", "--node", "n2=a:1"], "twice"),
        (["--node", "n1=a:1", "--node", "n1-0=b:1"], "worker of n1"),
        ([*NODES, "--port", "x"], "port"),
        ([*NODES, "--server-name", "a b;c"], "server's name"),
        ([*NODES, "--app", "http://h"], "not a port"),
        ([*NODES, "--static", "relative/path"], "absolute path"),
        ([*NODES, "--static", "/a b"], "absolute path"),
        ([*NODES, "--certificate", "/a.pem"], "belong together"),
        ([*NODES, "--certificate", "/a.pem", "--key", "/$key.pem"], "absolute path"),
    ],
    ids=lambda value: ascii(" ".join(value))[-40:] if isinstance(value, list) else "",
)
def test_invalid_nodes_and_addresses_are_rejected(arguments: list[str], hint: str, capsys: Output) -> None:
    assert main(["nginx", *arguments]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    assert hint in output.err


def test_wheel_contains_the_template(tmp_path: Path, capsys: Output) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=100)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as wheel_file:
        wheel_file.extractall(tmp_path / "installed")
    result = subprocess.run(
        [sys.executable, "-m", "tidings_hub", "nginx", *NODES, "--static", "/srv"],
        env=environment() | {"PYTHONPATH": str(tmp_path / "installed")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert result.stdout == print_config(capsys, *NODES, "--static", "/srv")
