from __future__ import annotations

import re
from pathlib import Path

import pytest
from flask.testing import FlaskClient

import tidings_hub.web
from tidings_hub.web import sdk

STATIC = Path(tidings_hub.web.__file__).parent / "static"


def test_the_page_is_for_dev_only(dev: FlaskClient, anonymous: FlaskClient) -> None:
    assert 'data-channel="demo:hello"' in dev.get("/").text
    answer = anonymous.get("/")
    assert answer.status_code == 200
    assert "tidings hub is running" in answer.text
    assert "script" not in answer.text
    asked = anonymous.get("/", headers={"Accept": "application/json"})
    assert asked.json == {"message": "tidings hub is running"}


def test_the_page_has_no_inline_code_and_nothing_from_elsewhere(dev: FlaskClient) -> None:
    answer = dev.get("/")
    policy = answer.headers["Content-Security-Policy"]

    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"<script(?![^>]*\ssrc=)", answer.text)
    assert not re.search(r"\s(style|on\w+)=", answer.text)
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", answer.text)


def test_every_file_that_the_page_names_is_served(dev: FlaskClient) -> None:
    found = re.findall(r"(?:src|href)=\"(/static/[^\"]+)\"", dev.get("/").text)
    assert len(found) >= 3
    for path in found:
        answer = dev.get(path)
        assert answer.status_code == 200
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        answer.close()


@pytest.mark.parametrize("path", ["/static/../app.py", "/static/..%2fapp.py", "/static/%2e%2e/app.py"])
def test_nothing_beside_the_static_files_is_served(dev: FlaskClient, path: str) -> None:
    assert dev.get(path).status_code == 404


def test_the_pages_scripts_never_make_markup() -> None:
    scripts = list(STATIC.glob("*.js"))
    assert len(scripts) >= 5
    for script in scripts:
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", script.read_text())


def test_the_page_says_what_is_missing(dev: FlaskClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sdk, "FOLDER", tmp_path)
    assert "make setup" in dev.get("/").text
    (tmp_path / "tidings.js").write_text("")
    assert "make setup" not in dev.get("/").text


def test_the_sdk_is_served_to_pages_of_any_origin(anonymous: FlaskClient) -> None:
    for name, kind in (("tidings.js", "text/javascript"), ("tidings.js.map", "application/json")):
        answer = anonymous.get(f"/{name}")
        assert answer.status_code == 200, "make setup builds it"
        assert answer.content_type.startswith(kind)
        assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
        assert answer.headers["Cache-Control"] == "no-cache"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        again = anonymous.get(f"/{name}", headers={"If-None-Match": answer.headers["ETag"]})
        assert again.status_code == 304
        answer.close()
        again.close()
    assert anonymous.post("/tidings.js").status_code == 405
    assert anonymous.get("/tidings.mjs").status_code == 404


def test_a_missing_sdk_is_said(anonymous: FlaskClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sdk, "FOLDER", tmp_path)
    answer = anonymous.get("/tidings.js")
    assert answer.status_code == 404
    assert "make setup" in answer.text
