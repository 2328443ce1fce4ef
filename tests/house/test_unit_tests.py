"""Each module that decides something has a unit test of its name, or a test that is named here."""

from __future__ import annotations

import ast
from pathlib import Path

from support.source_tree import HUB, NOTIFICATIONS, ROOT, is_protocol, tree_of

UNIT = "tests/unit/tidings_hub"
TESTED_FOLDERS = (*(HUB / name for name in ("core", "services", "engine")), NOTIFICATIONS / "core")
# Modules without a unit test of their name, by the test that covers them. They work with sockets or with each other.
TESTED_BY = {
    "tests/unit/tidings_notifications/core/test_batch.py": {"tidings_notifications/core/notification"},
    f"{UNIT}/core/test_delivery_reports.py": {"core/delivery_report"},
    f"{UNIT}/services/test_subscribe.py": {"services/hub_event", "services/permissions"},
    f"{UNIT}/services/test_presence.py": {"services/presence_sync"},
    f"{UNIT}/services/test_session_store.py": {
        *("core/session_records", "services/connect", "services/session_writer"),
    },
    f"{UNIT}/web/test_api.py": {"services/api"},
    f"{UNIT}/engine/relay/test_relay.py": {"engine/relay/parked_request", "engine/relay/upstream"},
    f"{UNIT}/test_runtime.py": {"engine/pump"},
    "tests/conformance/test_abuse.py": {
        *(
            "engine/fanout",
            "engine/http_connection",
            "engine/limits",
            "engine/linger",
            "engine/listener",
            "engine/response_socket",
        ),
        *("engine/refused_origin", "engine/sse_handler", "engine/requests/wsgi_handler"),
    },
    "tests/conformance/test_full.py": {"engine/capacity/socket_room", "engine/capacity/waiting_tiers"},
    "tests/conformance/test_engineio.py": {
        *(
            "engine/close_payloads",
            "engine/connection",
            "engine/engineio_handler",
            "engine/application",
            "engine/connection_input",
            "engine/mount",
        ),
        *("engine/poll_response_cache", "engine/server", "engine/upgrade"),
    },
    "tests/conformance/test_direct_requests.py": {"engine/requests/direct_requests"},
    "tests/conformance/test_priority.py": {"engine/capacity/priority_sockets"},
    "tests/conformance/test_repeated_polls.py": {"engine/poll_handler"},
    "tests/unit/tidings_hub/services/test_permissions.py": {"core/rates/user_rates"},
    "tests/e2e/nodes/test_relay.py": {"engine/relay/splice"},
}


def test_each_module_of_core_services_and_engine_is_tested() -> None:
    covered = set().union(*TESTED_BY.values())
    modules = [path for folder in TESTED_FOLDERS for path in sorted(folder.rglob("*.py"))]
    untested = {module_name(path) for path in modules if has_code(path) and not unit_test(path).is_file()}
    assert untested - covered == set(), "write a unit test of the same name, or name the test in TESTED_BY"


def test_each_named_test_exists() -> None:
    assert [name for name in TESTED_BY if not (ROOT / name).is_file()] == []


def module_name(path: Path) -> str:
    """The path below tidings_hub, or below hub for other packages, without its ending."""
    return path.relative_to(HUB if path.is_relative_to(HUB) else HUB.parent).with_suffix("").as_posix()


def unit_test(path: Path) -> Path:
    """Where the unit test of a module is expected."""
    return ROOT / "tests" / "unit" / path.relative_to(HUB.parent).parent / f"test_{path.name}"


def has_code(path: Path) -> bool:
    """Whether a module has more than protocols, constants and imports."""
    definitions = [node for node in tree_of(path).body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    return any(not isinstance(node, ast.ClassDef) or not is_protocol(node) for node in definitions)
