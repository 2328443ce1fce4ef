"""`tidings nginx`: prints an nginx configuration for some nodes, from the template that docker-compose uses too."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address
from pathlib import Path

import tidings_hub
from tidings.errors import BadConfig

NAME = "tidings.conf.template"
ROUTINGS = ("ip", "sid")
# The same as in docker-compose.yml. The other variables have no default.
DEFAULTS = {
    "PROXY_BODY_MAX": "1m",
    "PROXY_CONNECTIONS": "256",
    "PROXY_SESSIONS_PER_S": "50",
    "PROXY_SESSIONS_BURST": "200",
    "PROXY_API_PER_S": "200",
    "PROXY_IDLE_S": "90",
}
_HOME = Path(tidings_hub.__file__).parent
_NODE_ID = re.compile(r"[A-Za-z0-9_-]{1,32}")
_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*")
_FILE = re.compile(r"/[A-Za-z0-9_./@+-]{0,255}")
_PORT_MAX = 65_535
_VARIABLE = re.compile(r"\$\{(PROXY_[A-Z0-9_]+)\}")
_TLS = "#tls "
_PLAIN = " #plain\n"


@dataclass(frozen=True, slots=True)
class NodeAddress:
    """One server of the `upstream` block: the node id, and `host:port`."""

    id: str
    address: str


def run(arguments: argparse.Namespace) -> int:
    """Print the nginx configuration."""
    if bool(arguments.certificate) != bool(arguments.key):
        raise BadConfig("--certificate and --key belong together")
    values = DEFAULTS | {
        "PROXY_PORT": str(_port(str(arguments.port))),
        "PROXY_ROUTING": arguments.routing,
        "PROXY_SERVER_NAME": _server_name(arguments.server_name),
        "PROXY_STATIC": _file(arguments.static or str(_HOME / "web" / "static")),
        "PROXY_APP": _address(arguments.app) if arguments.app else "tidings",
    }
    if arguments.certificate:
        values |= {
            "PROXY_TLS_PORT": str(_port(str(arguments.tls_port))),
            "PROXY_CERTIFICATE": _file(arguments.certificate),
            "PROXY_KEY": _file(arguments.key),
        }
    print(render(template(), parse_nodes(arguments.node), values, tls=bool(arguments.certificate)), end="")
    return 0


def template() -> str:
    """Read the template. A wheel has it inside the package, and a checkout has it under nginx/.

    Raises:
        BadConfig: the template is in neither place.
    """
    for path in (_HOME / "nginx" / NAME, _HOME.parent.parent / "nginx" / "templates" / NAME):
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise BadConfig(f"{NAME} is missing from this installation; install tidings again")


def render(text: str, nodes: Sequence[NodeAddress], values: Mapping[str, str], *, tls: bool) -> str:
    """Fill in the template, with one line per node, and with TLS or without it.

    Raises:
        BadConfig: the template has a variable without a value.
    """
    return "".join(
        _fill(line, node, values)
        for line in _select_lines(text, tls=tls)
        if "${PROXY_NODE_2" not in line
        for node in (nodes if "${PROXY_NODE_1" in line else nodes[:1])
    )


def _select_lines(text: str, *, tls: bool) -> list[str]:
    lines = text.splitlines(keepends=True)
    if not tls:
        return lines
    return [line.replace(_TLS, "", 1) if _is_tls(line) else line for line in lines if not line.endswith(_PLAIN)]


def _is_tls(line: str) -> bool:
    return line.lstrip().startswith(_TLS)


def _fill(line: str, node: NodeAddress, values: Mapping[str, str]) -> str:
    variables = {"PROXY_NODE_1": node.id, "PROXY_NODE_1_ADDRESS": node.address, **values}

    def value(match: re.Match[str]) -> str:
        # As with envsubst, lines that are commented out keep the names of variables without a value.
        if match[1] not in variables and not _is_tls(line):
            raise BadConfig(f"the template has the variable {match[1]}, which has no value")
        return variables.get(match[1], match[0])

    return _VARIABLE.sub(value, line)


def parse_nodes(texts: Sequence[str]) -> list[NodeAddress]:
    """Parse nodes such as `n1=host:port`.

    Raises:
        BadConfig: a name or an address is not valid, or appears twice.
    """
    nodes: list[NodeAddress] = []
    for text in texts:
        id, separator, address = text.partition("=")
        if not separator:
            raise BadConfig(f"{text!r} is not a node: write its id and its address, as in n1=10.0.0.1:8000")
        if not _NODE_ID.fullmatch(id):
            raise BadConfig(f"{id!r} is not a node's id: 1 to 32 letters, digits and the signs _ -")
        nodes.append(NodeAddress(id, _address(address)))
    for values in ([node.id for node in nodes], [node.address for node in nodes]):
        if len(set(values)) != len(values):
            raise BadConfig(f"{max(values, key=values.count)} appears twice; every node has its own id and address")
    for node in nodes:
        machine, _, number = node.id.rpartition("-")
        if number.isdecimal() and machine in {other.id for other in nodes}:
            raise BadConfig(f"{node.id} looks like a worker of {machine}; rename one of them")
    return nodes


def _address(text: str) -> str:
    host, separator, port = text.rpartition(":")
    if not separator or not (_is_ipv6(host) or _HOST_NAME.fullmatch(host)):
        raise BadConfig(f"{text!r} is not host:port, such as 10.0.0.1:8000, hub-1:8000 or [::1]:8000")
    return f"{host}:{_port(port)}"


def _is_ipv6(host: str) -> bool:
    try:
        return host.startswith("[") and host.endswith("]") and bool(str(IPv6Address(host[1:-1])))
    except ValueError:
        return False


def _port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 0 < int(text) <= _PORT_MAX:
        raise BadConfig(f"{text!r} is not a port, 1 to {_PORT_MAX}")
    return int(text)


def _server_name(text: str) -> str:
    for name in text.split():
        if name != "_" and not _HOST_NAME.fullmatch(name.removeprefix("*.")):
            raise BadConfig(f"{name!r} is not a server's name, such as push.shop.example")
    return " ".join(text.split()) or "_"


def _file(text: str) -> str:
    if not _FILE.fullmatch(text):
        raise BadConfig(f"{text!r} is not an absolute path of letters, digits and the signs _ . / @ + -")
    return text.rstrip("/") or "/"
