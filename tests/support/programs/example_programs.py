"""What was published in a Redis, as a hub and a notification service would read it, and programs of docs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from support.processes.hub import ROOT, environment
from support.processes.redis import RedisProcess
from tidings.redis_client.keys import STREAM_MAX_FIELD, RedisKeys
from tidings.wire.notification import decode as decode_notification
from tidings.wire.publication import Publication, decode


class PublishedHistory:
    """Rules for the namespaces `a`, `orders`, `tasks` and `user` in a Redis, and the publications in them.

    The category `order_shipped` is that of a notification service.
    """

    def __init__(self, server: RedisProcess, prefix: str = "tidings:") -> None:
        self.url = server.url
        self.prefix = prefix
        self._server = server
        self._keys = RedisKeys(prefix)
        rules = dict.fromkeys(("a", "orders", "tasks", "user"), "100000 600")
        with server.client() as client:
            client.hset(self._keys.rules, mapping=rules)
            client.hset(self._keys.categories, mapping={STREAM_MAX_FIELD: b"1000", b"order_shipped": b"1"})

    def titles(self, user: str) -> list[str]:
        """The titles of the notifications of a user, in order."""
        with self._server.client() as client:
            entries = client.xrange(self._keys.notifications)
        notifications = [decode_notification(fields[b"n"]) for _, fields in entries]
        return [notification.title for notification in notifications if notification.user == user]

    def publications(self, channel: str) -> list[Publication]:
        """All publications of a channel, in order."""
        with self._server.client() as client:
            entries = client.xrange(self._keys.stream(channel))
        return [decode(channel, fields[b"m"], max_bytes=100_000) for _, fields in entries]

    def data(self, channel: str) -> list[Any]:
        """The data of each publication of a channel."""
        return [json.loads(publication.data_json) for publication in self.publications(channel)]

    def ops(self, channel: str) -> list[tuple[str, Any]]:
        """The op and the fields of each `updated_model` event."""
        return [(data["op"], data["model"]) for data in self.data(channel)]


def program_of(page: str, number: int = 0) -> str:
    """The first (or another) Python program of a page in docs, with at most 15 non-empty lines."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    program: str = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[number]
    assert len([line for line in program.splitlines() if line]) <= 15, page
    return program


def run_program(program: str, url: str, folder: Path, **env: str) -> str:
    """Run the program with `TIDINGS_URL` and more environment variables; return its output."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=folder,
        env=environment() | env | {"TIDINGS_URL": url},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
