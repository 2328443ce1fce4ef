"""Security linters report no findings in the project's nginx and compose files."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.compose import FILE, SECRETS, Composition, rendered
from support.installed_programs import program
from tidings_hub.cli import main

ROOT = FILE.parent


def linter(module: str) -> list[str]:
    """Return the command of a linter that is a Python module."""
    if importlib.util.find_spec(module) is None:
        if os.environ.get("CI"):
            pytest.fail(f"{module} is not installed; it is in the extra `test`")
        pytest.skip(f"{module} is not installed")
    return [sys.executable, "-m", module]


def lint(command: list[str]) -> str:
    """Run a linter, check that it succeeds, and return its output."""
    result = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, cwd=ROOT)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.parametrize("form", ["compose ip", "compose sid", "command", "tls"])
def test_gixy_finds_nothing(form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kind, _, routing = form.partition(" ")
    if kind == "compose":
        (tmp_path / "compose").mkdir()
        service = Composition(tmp_path / "compose", SECRETS | {"PROXY_ROUTING": routing})["nginx"]
        text = rendered(service)["tidings.conf"]
    else:
        tls = ["--certificate", "/etc/tls/c.pem", "--key", "/etc/tls/k.pem", "--server-name", "push.shop.example"]
        assert (
            main(["nginx", "--node", "n1=10.0.0.1:8000", "--node", "n2=10.0.0.2:8000", *(tls if kind == "tls" else [])])
            == 0
        )
        text = capsys.readouterr().out
    (tmp_path / "tidings.conf").write_text(text)
    main_file = tmp_path / "nginx.conf"
    nginx_config = (ROOT / "nginx" / "nginx.conf").read_text(encoding="utf-8")
    main_file.write_text(nginx_config.replace("/etc/nginx/conf.d/*.conf", str(tmp_path / "tidings.conf")))
    output = lint([*linter("gixy"), "-f", "json", str(main_file)])
    assert output.strip() == "[]"


def test_gixy_reports_a_problem_in_a_bad_file(tmp_path: Path) -> None:
    bad = tmp_path / "nginx.conf"
    bad.write_text(
        "events {}\nhttp { server { location / { proxy_set_header Host $http_host; proxy_pass http://x; } } }\n"
    )
    result = subprocess.run(
        [*linter("gixy"), "-f", "json", str(bad)], capture_output=True, text=True, timeout=100, check=False
    )
    assert "host_spoofing" in result.stdout


def test_compose_lint_finds_nothing() -> None:
    assert "no issues found" in lint(
        [*linter("compose_lint"), "check", "--no-env", "--fail-on", "low", "-q", str(FILE)]
    )


def test_dclint_finds_nothing() -> None:
    script = ROOT / "sdk_js" / "node_modules" / "dclint" / "bin" / "dclint.cjs"
    if not script.is_file():
        if os.environ.get("CI"):
            pytest.fail("dclint is not installed; `make setup` does it")
        pytest.skip("dclint is not installed")
    lint([program("node"), str(script), "--max-warnings", "0", str(FILE)])
