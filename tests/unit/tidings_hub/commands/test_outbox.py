"""Errors of `tidings outbox`, from wrong arguments or missing packages: one line with the fix, and no secret."""

from __future__ import annotations

import subprocess
import sys

import pytest

from support.processes.hub import environment
from tidings_hub.cli import main

pytestmark = pytest.mark.usefixtures("nowhere")
PASSWORD = "kT3xw9LpQ2"
TO = ("--to", "redis://127.0.0.1:9/0")


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ([], "TIDINGS_OUTBOX_URL"),
        ([f"oracle://shop:{PASSWORD}@db/shop"], "postgresql://"),
        ([f"no-url-{PASSWORD}"], "postgresql://user:password@host/database"),
        ([f"postgresql://shop:{PASSWORD}@db:{PASSWORD}/shop"], "postgresql://user:password@host/database"),
        (["sqlite://"], "sqlite:////folder/file.db"),
        (["sqlite:///shop.db", "--once"], "/shop.db; create it with --create"),
        (["sqlite:///shop.db", "--table", "a; DROP TABLE b"], "invalid table name"),
        (["sqlite:///shop.db", "--batch", "0"], "batch"),
        (["sqlite:///shop.db", "--interval", "nan"], "above 0"),
        (["sqlite:///shop.db", "--keep", "0"], "keep"),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, list) else "",
)
def test_every_error_is_one_line_with_the_fix(
    arguments: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["outbox", *arguments, *TO]) == 2
    error = capsys.readouterr().err
    assert error.startswith("tidings: ")
    assert error.count("\n") == 1
    assert hint in error
    assert PASSWORD not in error


@pytest.mark.parametrize(
    ("url", "hidden_module", "hint"),
    [
        ("sqlite:///shop.db", "sqlalchemy", "pip install 'tidings[outbox]'"),
        ("postgresql://db/shop", "psycopg", "pip install 'psycopg[binary]'"),
        ("mysql://db/shop", "pymysql", "pip install 'pymysql'"),
    ],
)
def test_missing_package_is_named(url: str, hidden_module: str, hint: str) -> None:
    server_modules = "eventlet greenlet pydantic flask httptools socketio engineio"
    program = f"""
import sys
sys.modules.update(dict.fromkeys({f"{hidden_module} {server_modules}".split()!r}))
from tidings_hub.cli import main
sys.exit(main({["outbox", url, *TO]!r}))
"""
    process = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert process.returncode == 2
    assert hint in process.stderr
    assert process.stderr.count("\n") == 1


def test_outbox_works_without_the_server_extra_and_hides_the_password() -> None:
    """If the database rejects the connection, its error is shown and the password is not."""
    program = f"""
import sys
sys.modules.update(dict.fromkeys("eventlet pydantic flask httptools socketio engineio".split()))
from tidings_hub.cli import main
sys.exit(main(["outbox", "postgresql://shop:{PASSWORD}@127.0.0.1:9/shop", "--once", *{TO!r}]))
"""
    process = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert process.returncode == 1
    assert "the database failed" in process.stderr
    assert PASSWORD not in process.stderr + process.stdout
