"""The messages of the room and the names of its users, in SQLite."""

import hashlib
import os
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

ROOM = "chat:lobby"
_TABLE = """CREATE TABLE IF NOT EXISTS messages
    (id INTEGER PRIMARY KEY, name TEXT, text TEXT, html TEXT, at_ms INTEGER, version INTEGER)"""
_USERS = "CREATE TABLE IF NOT EXISTS users (id TEXT PRIMARY KEY, name TEXT)"


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
            connection.execute(_USERS)
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


def name_of_author(message_id: int) -> str | None:
    with _database() as database:
        row = database.execute("SELECT name FROM messages WHERE id = ?", [message_id]).fetchone()
    return row and str(row[0])


def user_id(name: str) -> str:
    """The user's id. This chat has no passwords, so the name is the identity. A name can be any text, an id cannot."""
    return hashlib.sha256(name.casefold().encode()).hexdigest()[:16]


def remember_user(name: str) -> None:
    with _database() as database:
        database.execute("INSERT OR REPLACE INTO users VALUES (?, ?)", [user_id(name), name])


def mentioned_users(text: str) -> set[str]:
    """The ids of the users whose name follows an @ in the text."""
    with _database() as database:
        rows = database.execute("SELECT id, name FROM users").fetchall()
    return {row_id for row_id, name in rows if re.search(rf"(?<!\w)@{re.escape(name)}(?!\w)", text, re.IGNORECASE)}


def set_html(message_id: int, html: str) -> Message:
    with _database() as database:
        row = database.execute(
            "UPDATE messages SET html = ?, version = version + 1 WHERE id = ? RETURNING *", [html, message_id]
        ).fetchone()
    return Message(*row)
