"""How files, classes and variables are named."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from support.source_tree import HUB, NOTIFICATIONS, SOURCES, TESTS, name_of, nodes_of, tree_of

# File names that several packages of the hub use: each pair is one concept, seen from two layers.
SAME_FILE_NAMES = {
    "api.py": "the interface in services, its implementation in node, and its routes in web",
    "app.py": "the user's App, and the Flask application",
    "authorizer.py": "one authorizer calls handlers, the other one HTTP hooks",
    "client.py": "a Socket.IO client's state, and the HTTP client of the hooks",
    "flask_socketio.py": "the decoder in core, and its subscription in ingress",
    "limits.py": "the limits of the engine, and their values from the settings",
    "listener.py": "a TCP listener, and a listener of Redis pub/sub",
    "notifications.py": "the settings, and the command",
    "presence.py": "the service, and the command",
    "pusher.py": "the format in core, and its routes in web",
    "responses.py": "responses of hooks, and responses of the HTTP API",
    "server.py": "the Engine.IO server, and the Socket.IO server",
    "session_records.py": "the record in core, and its encoding in Redis",
    "socketio_emitter.py": "the decoder in core, and its subscription in ingress",
}
# Class names that a package uses twice. Their packages distinguish the two classes.
SAME_CLASS_NAMES = {
    "tidings.Tidings": "documented: the class of the Flask and of the FastAPI integration",
    "tidings_hub.Connection": "a connection of the engine, and the view of it in services",
    "tidings_hub.Kind": "of an Engine.IO packet, and of a metric",
    "tidings_hub.Listener": "of TCP connections, and of Redis pub/sub",
    "tidings_hub.Opening": "what a new connection brings, as each layer sees it",
    "tidings_hub.Origins": "the engine's interface, and the rules that implement it",
    "tidings_hub.Pool": "the pool of greenlets, and what other layers need of it",
    "tidings_hub.Reader": "of Redis pub/sub, and of WebSocket frames",
    "tidings_hub.Session": "documented: a handler's session, and the session of a client",
}
# Participles that are nouns or adjectives of the field, or documented names.
PARTICIPLES = {
    "Collected", "Draining", "Encoded", "Expired", "Failed", "Gone", "Pushed", "Revoked", "Sent", "Shared", "Stored",
    "Unauthorized",
}  # fmt: skip
_PARTICIPLE = re.compile(r"_?([A-Z][a-z]+(ed|ing)|Taken|Kept|Told|Said|Sent|Found|Made|Held|Given|Gone|Heard|Sought)")
# These words do not say what a variable or parameter holds.
VAGUE_VARIABLES = {"asked", "each", "found", "given", "kept", "made", "one", "said", "sought", "told", "wanted"}


def test_file_names_are_specific() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "misc", "shared", "managers", "stuff", "lib"}
    assert [name_of(path) for path in SOURCES if path.stem in vague or path.stem.startswith("base_")] == []


def test_no_file_name_is_used_twice_in_a_package_of_the_hub() -> None:
    places = defaultdict(list)
    for path in SOURCES:
        package = next((package for package in (HUB, NOTIFICATIONS) if path.is_relative_to(package)), None)
        if package is not None and path.name != "__init__.py":
            places[package, path.name].append(name_of(path))
    repeated = {name: paths for (_, name), paths in places.items() if len(paths) > 1}
    assert {name: paths for name, paths in repeated.items() if name not in SAME_FILE_NAMES} == {}
    assert SAME_FILE_NAMES.keys() - repeated.keys() == set(), "unique now: take it from SAME_FILE_NAMES"


def test_no_class_name_is_used_twice_in_a_package() -> None:
    places = defaultdict(list)
    for path in SOURCES:
        for node in tree_of(path).body:
            if isinstance(node, ast.ClassDef):
                package = name_of(path).split("/")[1]
                places[f"{package}.{node.name}"].append(name_of(path))
    repeated = {name: paths for name, paths in places.items() if len(paths) > 1}
    assert {name: paths for name, paths in repeated.items() if name not in SAME_CLASS_NAMES} == {}


def test_no_class_name_is_a_bare_participle() -> None:
    names = {
        f"{name_of(path)}:{node.name}"
        for path in SOURCES
        for node in tree_of(path).body
        if isinstance(node, ast.ClassDef) and _PARTICIPLE.fullmatch(node.name) and node.name not in PARTICIPLES
    }
    assert sorted(names) == []


def test_variables_say_what_they_hold() -> None:
    names = [
        f"{name_of(path)}:{line}: {name}"
        for path in [*SOURCES, *TESTS]
        for line, name in variables(path)
        if name in VAGUE_VARIABLES
    ]
    assert names == []


def variables(path: Path) -> Iterator[tuple[int, str]]:
    """The variables and parameters of a file, each with its line."""
    for node in nodes_of(path):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
