"""The rules of the house that no linter knows (DESIGN 2; CONTRIBUTING.md)."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tidings.codes import CODES
from tidings_hub.config.settings import Settings
from tidings_hub.metrics import FIELDS

ROOT = Path(__file__).parent.parent
SOURCES = sorted([*(ROOT / "adapters").rglob("*.py"), *(ROOT / "hub").rglob("*.py")])
TESTS = sorted((ROOT / "tests").rglob("*.py"))
LINES_MAX = 300
FUNCTION_LINES_MAX = 50

# Longer files, each with the reason why it is one file.
LONG_FILES = {
    "hub/tidings_hub/engine/connection.py": "one class whose slots the fan-out reads; its methods are short",
    "hub/tidings_hub/engine/http.py": "one grammar: what a request may look like, and what is refused",
    "hub/tidings_hub/engine/http_connection.py": "one state machine: a socket that speaks HTTP",
    "hub/tidings_hub/brokers/redis.py": "one class: all that the interface asks of one Redis, each method a few lines",
    "hub/tidings_hub/brokers/reader.py": "one greenlet's life: connect, resubscribe, repair, read",
    "hub/tidings_hub/brokers/repair.py": "one procedure: what a node reads again after a gap",
    "hub/tidings_hub/services/hub.py": "one shell: sessions, subscriptions and the fan-out share its state",
    "hub/tidings_hub/runtime.py": "the only file that knows eventlet, and it must stay one file",
}
LONG_FUNCTIONS = {
    "hub/tidings_hub/cli.py:parser": "one table: every command and its flags",
}
# The one file (or folder) that imports each driver.
DRIVERS = {
    "eventlet": {"hub/tidings_hub/runtime.py"},
    "greenlet": {"hub/tidings_hub/runtime.py"},
    "httptools": {"hub/tidings_hub/engine/http.py"},
    "jwt": {"adapters/tidings/tokens/signing_keys.py"},
    "kombu": {"adapters/tidings/publishers/queue/address.py"},
    "msgpack": {"adapters/tidings/wire/msgpack.py"},
    "prometheus_client": {"hub/tidings_hub/metrics.py"},
    "pyinstrument": {"hub/tidings_hub/node/profiler.py"},
    "redis": {"adapters/tidings/redis_client/", "adapters/tidings/publishers/redis/", "hub/tidings_hub/brokers/"},
    "socketio": {"hub/tidings_hub/socketio/"},
    "engineio": {"hub/tidings_hub/socketio/"},
    "celery": {"adapters/tidings/contrib/celery.py"},
    "django": {"adapters/tidings/contrib/django/"},
    "fastapi": set(),
    "flask": {"hub/tidings_hub/web/", "adapters/tidings/contrib/flask.py"},
    "sqlalchemy": {"adapters/tidings/contrib/sqlalchemy.py", "adapters/tidings/contrib/outbox/"},
    "starlette": {"adapters/tidings/contrib/fastapi.py"},
    "werkzeug": {"hub/tidings_hub/web/"},
}
# These are imported only by who uses their framework.
INTEGRATIONS = "adapters/tidings/contrib/"
PURE = {"backoff", "codes", "errors", "receipts", "wire"}
CORE_MAY_NOT = {"time", "random", "secrets", "threading", "os", "socket", "select", "asyncio", "logging", "subprocess"}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Every module that a file imports while it runs, and whether that happens on import of the file."""

    def walk(node: ast.AST, at_top: bool) -> Iterator[tuple[str, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.Import):
                yield from ((alias.name, at_top) for alias in child.names)
            elif isinstance(child, ast.ImportFrom) and child.level == 0:
                yield str(child.module), at_top
            yield from walk(child, at_top and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef))

    return walk(tree_of(path), at_top=True)


def functions(path: Path) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node


def test_there_is_something_to_check() -> None:
    assert len(SOURCES) > 40
    assert len(TESTS) > 20


def test_no_file_is_long_without_a_reason() -> None:
    long = {name_of(path) for path in SOURCES if len(path.read_text(encoding="utf-8").splitlines()) > LINES_MAX}
    assert long - set(LONG_FILES) == set(), "split it, or give a reason in LONG_FILES"
    assert set(LONG_FILES) - long == set(), "it is short now: take it from LONG_FILES"


def test_no_function_is_long_without_a_reason() -> None:
    long = set()
    for path in SOURCES:
        for name, node in functions(path):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            if body and (node.end_lineno or 0) - body[0].lineno + 1 > FUNCTION_LINES_MAX:
                long.add(f"{name_of(path)}:{name}")
    assert long - set(LONG_FUNCTIONS) == set()
    assert set(LONG_FUNCTIONS) - long == set()


def test_no_error_is_swallowed() -> None:
    found = []
    for path in [*SOURCES, *TESTS]:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ExceptHandler):
                bare = node.type is None
                silent = all(isinstance(each, ast.Pass) or ast.unparse(each) == "..." for each in node.body)
                if bare or silent:
                    found.append(f"{name_of(path)}:{node.lineno}")
    assert found == []


def test_files_are_nouns_or_verbs() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "misc", "shared", "managers", "stuff", "lib"}
    assert [name_of(path) for path in SOURCES if path.stem in vague or path.stem.startswith("base_")] == []


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_driver_has_its_place(driver: str) -> None:
    places = tuple(DRIVERS[driver])
    found = {
        name_of(path) for path in SOURCES if any(module.partition(".")[0] == driver for module, _ in imports(path))
    }
    outside = {name for name in found if not name.startswith(places)} if places else found
    assert outside == set()


def test_a_backends_package_imports_drivers_only_when_it_needs_them() -> None:
    found = [
        f"{name_of(path)}: {module}"
        for path in SOURCES
        if name_of(path).startswith("adapters/") and not name_of(path).startswith(INTEGRATIONS)
        for module, at_top in imports(path)
        if (at_top and module.partition(".")[0] in DRIVERS) or module.startswith("tidings.contrib")
    ]
    assert found == []


def test_a_backends_package_loads_no_driver_and_no_framework() -> None:
    program = "import sys, tidings; tidings.Emitter, tidings.AsyncEmitter, tidings.issue; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT / "adapters"
    )
    loaded = {module.partition(".")[0] for module in done.stdout.split()}
    assert loaded & DRIVERS.keys() == set()
    assert "tidings.contrib" not in done.stdout


def test_core_only_decides() -> None:
    found = []
    for path in SOURCES:
        if "/tidings_hub/core/" not in path.as_posix():
            continue
        for module, _ in imports(path):
            root, _, rest = module.partition(".")
            pure = root == "tidings" and rest.partition(".")[0] in PURE
            own = module.startswith("tidings_hub.core")
            if root in CORE_MAY_NOT or (root in ("tidings", "tidings_hub") and not (pure or own)):
                found.append(f"{name_of(path)}: {module}")
    assert found == []


def test_nothing_is_mocked() -> None:
    found = [
        name_of(path)
        for path in [*SOURCES, *TESTS]
        for module, _ in imports(path)
        if module in ("unittest.mock", "mock") or module.startswith("pytest_mock")
    ]
    assert found == []


def test_comments_carry_no_unnamed_todo() -> None:
    pattern = re.compile(r"#.*\b(TODO|FIXME|XXX|HACK)\b(?!.*(issue|#)\s*\d)")
    found = [
        name_of(path)
        for path in [*SOURCES, *TESTS]
        if path.name != "test_house.py" and pattern.search(path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_every_code_is_in_the_protocol() -> None:
    text = (ROOT / "PROTOCOL.md").read_text(encoding="utf-8")
    assert [code.name for code in CODES.values() if f"`{code.name}`" not in text or str(code.number) not in text] == []


def test_every_setting_and_its_metric_are_documented() -> None:
    text = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert [name for name in Settings.model_fields if f"`{name}`" not in text] == []


def test_every_setting_is_used() -> None:
    settings_file = ROOT / "hub/tidings_hub/config/settings.py"
    code = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES if path != settings_file)
    own = settings_file.read_text(encoding="utf-8")
    unused = [
        n for n in Settings.model_fields if not re.search(rf"\.{n}\b", code) and not re.search(rf"self\.{n}\b", own)
    ]
    assert unused == [], "a setting that nothing reads is a promise that nobody keeps"


def test_every_metric_is_counted() -> None:
    code = "\n".join(
        path.read_text(encoding="utf-8") for path in SOURCES if path.name not in ("metrics.py", "limits.py")
    )
    assert [name for name in FIELDS if not re.search(rf"\b{name}\b", code)] == []


def test_the_packages_are_typed_and_of_one_version() -> None:
    import tidings

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == tidings.__version__
    assert f"## {tidings.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert all((ROOT / place / "py.typed").is_file() for place in ("adapters/tidings", "hub/tidings_hub"))


def test_versions_with_known_holes_are_not_installed() -> None:
    """Floors of the threat list, section 6 item 37."""
    from importlib.metadata import version

    floors = {
        "python-engineio": (4, 13, 2),
        "python-socketio": (5, 16, 4),
        "eventlet": (0, 40, 4),
        "PyJWT": (2, 15),
        "Flask": (3, 1, 3),
    }
    for name, floor in floors.items():
        assert tuple(int(part) for part in version(name).split(".")[:3]) >= floor, name


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 150


def test_the_ci_only_calls_make() -> None:
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    assert lines[-1] == "exec make test"
    for script in ("run", "install"):
        subprocess.run(["bash", "-n", str(ROOT / ".ci" / script)], check=True)


def test_every_public_name_exists() -> None:
    import tidings

    assert [name for name in tidings.__all__ if getattr(tidings, name) is None] == []
    assert sorted(tidings.__all__) == tidings.__all__
