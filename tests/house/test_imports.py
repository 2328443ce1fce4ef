"""Which file imports which library, and what a backend's package loads. Layers are checked by import-linter."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from itertools import chain

import pytest

from support.source_tree import ROOT, SOURCES, TESTS, imports, name_of

# The one file (or folder) that imports each driver.
DRIVERS = {
    "alembic": {"hub/tidings_notifications/store/"},
    "bidict": {"hub/tidings_hub/socketio/manager.py"},
    "aiohttp": {"hub/tidings_notifications/web_push/"},
    "cryptography": {"adapters/tidings/tokens/signing_keys.py", "hub/tidings_notifications/web_push/"},
    "eventlet": {"hub/tidings_hub/runtime.py"},
    "greenlet": {"hub/tidings_hub/runtime.py"},
    "hiredis": {"hub/tidings_hub/brokers/pubsub_link.py"},
    "http_ece": {"hub/tidings_notifications/web_push/encryption.py"},
    "httptools": {"hub/tidings_hub/engine/protocols/http_request.py"},
    "jwt": {"adapters/tidings/tokens/signing_keys.py"},
    "kombu": {"adapters/tidings/publishers/queue/address.py"},
    "msgpack": {"adapters/tidings/wire/msgpack.py"},
    "prometheus_client": {"hub/tidings_hub/metrics.py", "hub/tidings_notifications/metrics.py"},
    "pydantic": {"hub/tidings_hub/config/", "hub/tidings_hub/web/"},
    "pydantic_core": {"hub/tidings_hub/config/render.py"},
    "pyinstrument": {"hub/tidings_hub/node/profiler.py"},
    "redis": {"adapters/tidings/redis_client/", "adapters/tidings/publishers/redis/", "hub/tidings_hub/brokers/"},
    "socketio": {"hub/tidings_hub/socketio/"},
    "engineio": {"hub/tidings_hub/socketio/"},
    "celery": {"adapters/tidings/contrib/celery.py"},
    "django": {"adapters/tidings/contrib/django/"},
    "fastapi": set(),
    "flask": {
        "hub/tidings_hub/web/",
        "adapters/tidings/contrib/flask.py",
        "adapters/tidings/contrib/flask_background.py",
        "hub/tidings_notifications/api/",
    },
    "sqlalchemy": {
        "adapters/tidings/contrib/database_rows.py",
        "adapters/tidings/contrib/orphans.py",
        "adapters/tidings/contrib/previous_rows.py",
        "adapters/tidings/contrib/row_queries.py",
        "adapters/tidings/contrib/sqlalchemy.py",
        "adapters/tidings/contrib/sqlalchemy_targets.py",
        "adapters/tidings/contrib/outbox/",
        "adapters/tidings/contrib/background/sql_",
        "hub/tidings_notifications/store/",
    },
    "starlette": {"adapters/tidings/contrib/fastapi.py", "adapters/tidings/contrib/fastapi_background.py"},
    "waitress": {"hub/tidings_notifications/service/http_server.py"},
    "werkzeug": {
        "hub/tidings_hub/web/",
        "hub/tidings_notifications/api/",
        "adapters/tidings/contrib/flask_background.py",
    },
}
# Imported distributions that are not declared themselves, and the declared one that installs them.
INSTALLED_BY = {
    "asgiref": "django",
    "cryptography": "pyjwt",
    "pydantic-core": "pydantic",
    "starlette": "fastapi",
    "yarl": "aiohttp",
}
# A backend imports a module of this folder only if it uses that framework.
INTEGRATIONS = "adapters/tidings/contrib/"
PURE = {"backoff", "codes", "errors", "receipts", "wire"}
CORE_MAY_NOT = {"time", "random", "secrets", "threading", "os", "socket", "select", "asyncio", "logging", "subprocess"}


def importers() -> dict[str, set[str]]:
    """The files that import each top-level module."""
    files: dict[str, set[str]] = {}
    for path in SOURCES:
        for module, _ in imports(path):
            files.setdefault(module.partition(".")[0], set()).add(name_of(path))
    return files


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_driver_is_imported_only_in_its_place(driver: str) -> None:
    places = tuple(DRIVERS[driver])
    assert [name for name in importers().get(driver, ()) if not places or not name.startswith(places)] == []


def test_each_imported_distribution_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = [*project["dependencies"], *chain.from_iterable(project["optional-dependencies"].values())]
    declared = {normalized(re.match(r"[\w.-]+", requirement)[0]) for requirement in requirements}
    distributions = packages_distributions()
    foreign = importers().keys() - sys.stdlib_module_names - {"tidings", "tidings_hub", "tidings_notifications"}
    imported = {normalized(name) for module in foreign for name in distributions[module]}
    assert {INSTALLED_BY.get(name, name) for name in imported} - declared == set()


def normalized(name: str) -> str:
    """A distribution's name as PyPI compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_a_backends_package_imports_drivers_only_when_it_needs_them() -> None:
    violations = [
        f"{name_of(path)}: {module}"
        for path in SOURCES
        if name_of(path).startswith("adapters/") and not name_of(path).startswith(INTEGRATIONS)
        for module, at_top in imports(path)
        if (at_top and module.partition(".")[0] in DRIVERS) or module.startswith("tidings.contrib")
    ]
    assert violations == []


def test_a_backends_package_loads_no_driver_and_no_framework() -> None:
    program = "import sys, tidings; tidings.Emitter, tidings.AsyncEmitter, tidings.issue; print(*sys.modules)"
    process = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT / "adapters"
    )
    loaded = {module.partition(".")[0] for module in process.stdout.split()}
    assert loaded & DRIVERS.keys() == set()
    assert "tidings.contrib" not in process.stdout


def test_core_imports_only_pure_modules() -> None:
    violations = []
    for path in SOURCES:
        package = path.relative_to(ROOT).parts[1]
        if not path.is_relative_to(ROOT / "hub" / package / "core"):
            continue
        for module, _ in imports(path):
            root, _, rest = module.partition(".")
            pure = root == "tidings" and rest.partition(".")[0] in PURE
            own = module.startswith(f"{package}.core")
            if root in CORE_MAY_NOT or (root.startswith("tidings") and not (pure or own)):
                violations.append(f"{name_of(path)}: {module}")
    assert violations == []


def test_nothing_is_mocked() -> None:
    violations = [
        name_of(path)
        for path in [*SOURCES, *TESTS]
        for module, _ in imports(path)
        if module in ("unittest.mock", "mock") or module.startswith("pytest_mock")
    ]
    assert violations == []
