"""The settings and programs of docs/notifications.md run unchanged."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.ports import free_port
from support.processes.hub import API_KEY, ROOT, SECRET, HubProcess, environment, token
from support.waiting import wait_until
from tidings import hooks

TEXT = (ROOT / "docs" / "notifications.md").read_text(encoding="utf-8")
KEYS = f'secret = "{SECRET}"\napi_keys = ["{API_KEY}"]\ndrain_s = 5\ndrain_notice_s = 0\n'


def blocks(language: str, section: str) -> list[str]:
    """The code blocks of one language in one section."""
    (text,) = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def run(program: str, folder: Path, **variables: str) -> list[str]:
    """The lines that a program prints."""
    command = [sys.executable, "-c", program]
    env = environment() | variables
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().splitlines()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubProcess]:
    (settings,) = blocks("toml", "A bell in a Flask application")
    listen = f'[notifications]\nlisten = "127.0.0.1:{free_port()}"\n'
    process = HubProcess(tmp_path, extra=KEYS, config=settings.replace("[notifications]\n", listen))
    yield process
    process.terminate()


def test_bell_in_a_flask_application(hub: HubProcess, tmp_path: Path) -> None:
    hub.start()
    wait_until(lambda: hub.get("/readyz")[1]["checks"].get("notifications") == "ok", why="the service is ready")
    (program,) = blocks("python", "A bell in a Flask application")
    use = """
client = app.test_client()
print(*[client.post("/orders/42/ship").get_json()["state"] for _ in range(2)])
print(client.get("/token").text)
"""
    states, jwt = run(program + use, tmp_path, TIDINGS_URL=hub.url, TIDINGS_API_KEY=API_KEY, TIDINGS_SECRET=SECRET)
    assert states == "stored stored"
    page = hub.request("GET", "/inbox", headers={"Authorization": f"Bearer {jwt}"})[1]
    assert [(item["title"], item["url"]) for item in page["items"]] == [("Your order has shipped", "/orders/42")]
    headers = {"Authorization": f"Bearer {token('7')}"}
    (preference,) = hub.request("GET", "/inbox/preferences", headers=headers)[1]["preferences"]
    assert preference["label"] == "Shipping"


def test_webhook_is_verified(tmp_path: Path) -> None:
    (program,) = blocks("python", "Webhooks")
    body = json.dumps({"user": "7", "notification": {"title": "It has shipped"}}).encode()
    header = hooks.sign("s" * 40, body, at_s=time.time())
    use = f"""
client = app.test_client()
print(client.post("/mail", data={body!r}, content_type="application/json",
    headers={{"Tidings-Signature": {header!r}}}).status_code)
print(client.post("/mail", data={body!r}, content_type="application/json").status_code)
"""
    assert run(program + use, tmp_path, HOOKS_SECRET="s" * 40) == ["mail to 7 It has shipped", "204", "403"]


def test_settings_of_several_nodes_are_right(tmp_path: Path) -> None:
    (settings,) = blocks("toml", "Several nodes")
    path = tmp_path / "tidings.toml"
    path.write_text(KEYS + settings)
    command = [sys.executable, "-m", "tidings_hub", "check-config", "--config", str(path)]
    done = subprocess.run(command, env=environment(), capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
