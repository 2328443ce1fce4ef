"""The messages of the room, in SQLite."""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

ROOM = "chat:lobby"
_TABLE = """CREATE TABLE IF NOT EXISTS messages
    (id INTEGER PRIMARY KEY, name TEXT, text TEXT, html TEXT, at_ms INTEGER, version INTEGER)"""


@dataclass(frozen=True)
class Message:
    """`push_model` publishes it to the room. `html`: the rendered text; None until the worker has rendered it."""

    id: int
    name: str
    text: str
    html: str | None
    at_ms: int
    version: int
    __channels__ = (ROOM,)


@contextmanager
def _database() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(os.environ["CHAT_DATA"])
    try:
        with connection:
            connection.execute(_TABLE)
            yield connection
    finally:
        connection.close()


def newest(limit: int = 100) -> list[Message]:
    with _database() as database:
        rows = database.execute("SELECT * FROM messages ORDER BY id DESC LIMIT ?", [limit]).fetchall()
    return [Message(*row) for row in reversed(rows)]


def add(name: str, text: str) -> Message:
    with _database() as database:
        values = [name, text, time.time_ns() // 1_000_000]
        row = database.execute(
            "INSERT INTO messages (name, text, at_ms, version) VALUES (?, ?, ?, 1) RETURNING *", values
        ).fetchone()
    return Message(*row)


def get(message_id: int) -> Message:
    with _database() as database:
        return Message(*database.execute("SELECT * FROM messages WHERE id = ?", [message_id]).fetchone())


def set_html(message_id: int, html: str) -> Message:
    with _database() as database:
        row = database.execute(
            "UPDATE messages SET html = ?, version = version + 1 WHERE id = ? RETURNING *", [html, message_id]
        ).fetchone()
    return Message(*row)
