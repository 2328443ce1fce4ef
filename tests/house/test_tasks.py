"""Long-lived tasks are supervised, and each lock has a rule."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from support.source_tree import HUB, ROOT, SOURCES, name_of, nodes_of, tree_of

# Greenlets and threads that end by themselves, by file and by what they run.
SHORT_TASKS = {
    "hub/tidings_hub/brokers/buckets/bucket_revocations.py:run": "one request to a bucket, which has a timeout",
    "hub/tidings_hub/brokers/health/bucket_health.py:bucket.check": "one canary, which has a timeout",
    "hub/tidings_hub/commands/conformance.py:greet": "one message to a client of a test suite",
    "hub/tidings_hub/node/aggregation.py:self._request": "one request to a sibling, which has a timeout",
    "hub/tidings_hub/node/drain.py:listener.stop": "part of the shutdown",
    "hub/tidings_hub/node/worker_beats.py:action": "the shutdown",
    "hub/tidings_hub/node/stall_detector.py:self._watch": "a thread of the system: a blocked loop supervises nothing",
    "hub/tidings_hub/services/revocation_writer.py:self._run": "a thread of the system; it survives every error",
    "hub/tidings_hub/socketio/engineio_adapter.py:lambda": "background tasks of python-socketio: one event of a client",
    "hub/tidings_hub/runtime.py:function": "the implementation of `spawn`",
    "hub/tidings_hub/runtime.py:self._work": "a worker of a pool, which handles the errors of its calls",
    "adapters/tidings/contrib/background/leases.py:self._run": "ends with the process's jobs, survives errors",
    "adapters/tidings/contrib/background/thread_pool.py:self._work": "ends without work, survives errors",
    "adapters/tidings/tokens/jwks.py:self._run": "one fetch, which has a deadline and reports every error",
    "adapters/tidings/testing/": "programs of tests",
}
SUPERVISED = "SupervisedTask"
_STARTS = {"Thread", "greenlet", "spawn", "spawn_n", "start_new_thread"}

# Locks, by file and name. "short": held for a few steps, never during I/O or a wait. Other locks have their deadline.
LOCKS = {
    "adapters/tidings/contrib/background/leases.py:self._lock": "short",
    "adapters/tidings/contrib/background/thread_pool.py:self._lock": "short",
    "adapters/tidings/contrib/outbox/relay.py:self._counting": "short",
    "adapters/tidings/contrib/outbox/relay.py:self._sweeping": "held for a claim, and others do not wait for it",
    "adapters/tidings/contrib/outbox/written_rows.py:self._lock": "short",
    "adapters/tidings/drivers.py:_lock": "one import of a package, as long as Python's own lock of that module",
    "adapters/tidings/publishers/memory/commands.py:self._lock": "short",
    "adapters/tidings/publishers/memory/notifications.py:self._lock": "short",
    "adapters/tidings/publishers/memory/store.py:_stores_lock": "short",
    "adapters/tidings/publishers/memory/store.py:self.lock": "short",
    "adapters/tidings/testing/recorder.py:self._lock": "short",
    "adapters/tidings/tokens/jwks.py:self._lock": "short",
    "adapters/tidings/tokens/key_set.py:self._room": "taken without waiting; held for at most jwks_wait_s",
    "hub/tidings_hub/brokers/barriers.py:self._lock": "short",
    "hub/tidings_hub/brokers/cluster.py:self._sink_lock": "held while the sink delivers, which never waits",
    "hub/tidings_hub/brokers/completion.py:self._lock": "held until the event; each wait has a limit",
    "hub/tidings_hub/brokers/herd/history_reads.py:self._slots": "a limit for the wait; a read is one request to Redis",
    "hub/tidings_hub/brokers/interests.py:self._lock": "short",
    "hub/tidings_hub/brokers/pubsub_link.py:self._lock": "one deadline for the wait, and one for the write",
    "hub/tidings_hub/extensions/hooks/client.py:self._free": "the deadline of the hook covers wait and exchange",
    "hub/tidings_hub/ingress/dead_letters.py:self._lock": "short",
    "hub/tidings_hub/ingress/lease_keeper.py:self._request_lock": "one request to the broker, which has a deadline",
    "hub/tidings_hub/ingress/notification_handover.py:self._lock": "short",
    "hub/tidings_hub/services/notification_link.py:self._free": "the deadline of the request covers wait and exchange",
    "hub/tidings_hub/services/presence_sync.py:self._lock": "short",
    "hub/tidings_notifications/inbox/counts_cache.py:self._lock": "short",
    "hub/tidings_notifications/inbox/inbox.py:self._ids_lock": "short",
    "hub/tidings_notifications/scheduler/webhook_sender.py:self._lock": "short",
    "hub/tidings_notifications/web_push/sender.py:self._lock": "short",
    "hub/tidings_notifications/writer.py:self._lock": "short",
}
_LOCK_CLASSES = {f"threading.{name}" for name in ("Lock", "RLock", "Condition", "Semaphore", "BoundedSemaphore")}
# Calls that wait, or that may. A short lock is not held around them.
_WAITING_CALLS = {
    "acquire", "connect", "exchange", "join", "open", "publish", "read", "recv", "refresh", "run", "send", "sendall",
    "sleep", "wait", "write",
}  # fmt: skip
# Methods of these names that only change values of this process.
_VALUES = {"self._local", "self._presence"}


def test_each_long_lived_task_is_supervised() -> None:
    started = {f"{name_of(path)}:{target}" for path in SOURCES for target in unsupervised(path)}
    unexplained = {task for task in started if not any(task.startswith(known) for known in SHORT_TASKS)}
    assert unexplained == set(), "start it as a SupervisedTask, or give the reason why it is short in SHORT_TASKS"
    assert {known for known in SHORT_TASKS if not known.endswith("/")} - started == set(), "take it from SHORT_TASKS"


def unsupervised(path: Path) -> Iterator[str]:
    """What a file runs in a greenlet or thread of its own, without supervision."""
    names = {
        target.id
        for node in nodes_of(path)
        if isinstance(node, ast.Assign) and _is_supervised(node.value, set())
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in nodes_of(path):
        if isinstance(node, ast.Call) and _name(node.func) in _STARTS and not _is_interface(node):
            keyword = next((keyword.value for keyword in node.keywords if keyword.arg == "target"), None)
            target = keyword or (node.args[0] if node.args else None)
            if target is not None and not _is_supervised(target, names):
                yield "lambda" if isinstance(target, ast.Lambda) else ast.unparse(target)


def _is_interface(node: ast.Call) -> bool:
    """Whether this is a `spawn` that an object was given: its caller is checked."""
    return isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) == "self"


def _is_supervised(node: ast.expr, names: set[str]) -> bool:
    return (isinstance(node, ast.Call) and _name(node.func) == SUPERVISED) or (
        isinstance(node, ast.Name) and node.id in names
    )


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def test_each_lock_has_a_rule() -> None:
    locks = {f"{name_of(path)}:{lock}" for path in SOURCES for lock in created_locks(path)}
    assert locks - set(LOCKS) == set(), "name its rule in LOCKS: what bounds the time for which it is held?"
    assert set(LOCKS) - locks == set(), "it is gone: take it from LOCKS"


def created_locks(path: Path) -> Iterator[str]:
    """The variables of a file that hold a lock of threading."""
    for node in nodes_of(path):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            function = node.value.func
            if ast.unparse(function) in _LOCK_CLASSES:
                yield from (ast.unparse(target) for target in node.targets)
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            text = ast.unparse(node.value)
            if any(text.startswith(f"{name}(") for name in _LOCK_CLASSES):
                yield ast.unparse(node.target)


def test_no_short_lock_is_held_while_waiting() -> None:
    waits = [
        f"{name_of(path)}:{node.lineno}: {ast.unparse(call.func)}"
        for path in SOURCES
        for node in nodes_of(path)
        if isinstance(node, ast.With) and any(_is_short(path, item.context_expr) for item in node.items)
        for statement in node.body
        for call in ast.walk(statement)
        if isinstance(call, ast.Call) and _name(call.func) in _WAITING_CALLS and _receiver(call) not in _VALUES
    ]
    assert waits == []


def _receiver(node: ast.Call) -> str:
    return ast.unparse(node.func.value) if isinstance(node.func, ast.Attribute) else ""


def _is_short(path: Path, expression: ast.expr) -> bool:
    return LOCKS.get(f"{name_of(path)}:{ast.unparse(expression)}") == "short"


def test_the_rules_see_the_code() -> None:
    assert tree_of(HUB / "runtime.py")
    assert (ROOT / "hub/tidings_hub/supervised_task.py").is_file()
    assert (
        sum(
            ast.unparse(node.func) == SUPERVISED
            for path in SOURCES
            for node in nodes_of(path)
            if isinstance(node, ast.Call)
        )
        > 8
    )
