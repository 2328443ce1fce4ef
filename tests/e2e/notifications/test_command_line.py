"""`tidings notify`, `tidings doctor` and `notify` of an app in the hub, with a real service."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.notification_node import NotificationNode
from support.processes.client import ClientProcess
from support.processes.hub import CONFIG, SECRET, environment, token
from support.processes.notifications import CATEGORIES

APP = """
from tidings_hub import App, Session

app = App()


@app.on("order:ship")
def ship(session: Session, data: dict) -> list:
    receipts = app.notify("order_shipped", users=data["users"], title="Shipped", id=data["id"])
    return [[receipt.id, receipt.state, receipt.duplicate] for receipt in receipts]


@app.on("order:wrong")
def wrong(session: Session, data: dict) -> None:
    app.notify("no_such", user="7", title="T")
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NotificationNode]:
    folder = tmp_path_factory.mktemp("node")
    (folder / "shop_handlers.py").write_text(APP)
    process = NotificationNode(folder, extra='app = "shop_handlers"\n')
    try:
        yield process.start()
    finally:
        process.stop()


def run(node: NotificationNode, *arguments: str, config: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tidings_hub", arguments[0], "--config", str(config or node.hub.config)]
    return subprocess.run(
        [*command, *arguments[1:]], env=environment(), capture_output=True, text=True, timeout=60, check=False
    )


def inbox(node: NotificationNode, user: str) -> list[Any]:
    headers = {"Authorization": f"Bearer {token(user)}"}
    return list(node.hub.request("GET", "/inbox", headers=headers)[1]["items"])


def test_notify_prints_a_receipt_for_each_user(node: NotificationNode) -> None:
    flags = ["--category", "order_shipped", "--title", "It is on its way", "--id", "o1"]
    fields = {"body": "Friday", "url": "/orders/1", "icon": "/box.png", "data": {"order": 1}, "group": "order:1"}
    more = [part for name, value in fields.items() for part in (f"--{name}", _text(value))]
    done = run(node, "notify", "ann", "bob", "ann", *flags, *more, "--expires-in-s", "600")
    assert done.returncode == 0, done.stderr
    receipt = {"id": "o1", "state": "stored", "duplicate": False}
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"user": "ann", **receipt},
        {"user": "bob", **receipt},
    ]
    for user in ("ann", "bob"):
        (item,) = inbox(node, user)
        assert {name: item[name] for name in fields} == fields
        assert 590_000 < item["expires_at"] - item["created_at"] < 610_000
    again = run(node, "notify", "ann", *flags)
    assert json.loads(again.stdout)["duplicate"]


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--category", "no_such", "--title", "T"], "no_such"),
        (["--category", "order_shipped", "--title", "T", "--url", "javascript:alert(1)"], "url"),
        (["--category", "order_shipped", "--title", "T", "--data", "{"], "--data is not JSON"),
    ],
)
def test_wrong_notification_is_one_line_and_exit_code_2(node: NotificationNode, flags: list[str], message: str) -> None:
    done = run(node, "notify", "eve", *flags)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert inbox(node, "eve") == []


def test_app_in_the_hub_notifies_through_its_node(node: NotificationNode, clients: list[ClientProcess]) -> None:
    client = ClientProcess("python-websocket", node.hub.url, token=token("worker"), channels=[]).wait_ready()
    clients.append(client)
    users = [f"app-{number}" for number in range(50)]
    answer = client.request("order:ship", {"users": users, "id": "s1"})
    assert answer == [["s1", "stored", False]] * 50
    assert client.request("order:ship", {"users": users[:1], "id": "s1"}) == [["s1", "stored", True]]
    assert [item["title"] for item in inbox(node, "app-49")] == ["Shipped"]
    assert client.request("order:wrong", {})["error"]["code"] == "unknown_category"


def test_doctor_checks_the_service_and_its_key(node: NotificationNode, tmp_path: Path) -> None:
    done = run(node, "doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"the notification service is ready at {node.service.url}/readyz" in done.stdout
    assert "the notification service accepts the key of the nodes" in done.stdout
    other = tmp_path / "tidings.toml"
    other.write_text(f'relay_secret = "{SECRET[::-1]}"\n' + node.hub.config.read_text())
    done = run(node, "doctor", config=other)
    assert done.returncode == 1
    assert "rejects the key of the nodes; set the same secret" in done.stdout


def test_doctor_names_a_service_that_does_not_answer(node: NotificationNode, tmp_path: Path) -> None:
    other = tmp_path / "tidings.toml"
    table = '[notifications]\nurl = "http://127.0.0.1:1"\n'
    other.write_text(f"port = {node.hub.port}\n" + CONFIG + table + CATEGORIES)
    done = run(node, "doctor", config=other)
    assert done.returncode == 1
    assert "notification service at http://127.0.0.1:1" in done.stdout
    assert "start `tidings notifications`" in done.stdout
