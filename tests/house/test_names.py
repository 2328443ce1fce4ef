"""How files are named."""

from __future__ import annotations

from collections import defaultdict

from support.source_tree import HUB, SOURCES, name_of

# File names that several packages of the hub use: each pair is one concept, seen from two layers.
SAME_FILE_NAMES = {
    "api.py": "the interface in services, its implementation in node, and its routes in web",
    "app.py": "the user's App, and the Flask application",
    "authorizer.py": "one authorizer calls handlers, the other one HTTP hooks",
    "client.py": "a Socket.IO client's state, and the HTTP client of the hooks",
    "flask_socketio.py": "the decoder in core, and its subscription in ingress",
    "limits.py": "the limits of the engine, and their values from the settings",
    "listener.py": "a TCP listener, and a listener of Redis pub/sub",
    "presence.py": "the service, and the command",
    "pusher.py": "the format in core, and its routes in web",
    "responses.py": "responses of hooks, and responses of the HTTP API",
    "server.py": "the Engine.IO server, and the Socket.IO server",
    "session_records.py": "the record in core, and its encoding in Redis",
    "socketio_emitter.py": "the decoder in core, and its subscription in ingress",
}


def test_file_names_are_specific() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "misc", "shared", "managers", "stuff", "lib"}
    assert [name_of(path) for path in SOURCES if path.stem in vague or path.stem.startswith("base_")] == []


def test_no_file_name_is_used_twice_in_the_hub() -> None:
    places = defaultdict(list)
    for path in SOURCES:
        if path.is_relative_to(HUB) and path.name != "__init__.py":
            places[path.name].append(name_of(path))
    repeated = {name: paths for name, paths in places.items() if len(paths) > 1}
    assert {name: paths for name, paths in repeated.items() if name not in SAME_FILE_NAMES} == {}
    assert SAME_FILE_NAMES.keys() - repeated.keys() == set(), "unique now: take it from SAME_FILE_NAMES"
