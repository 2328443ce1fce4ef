from __future__ import annotations

import gzip
import re
from contextlib import closing
from pathlib import Path

import pytest
from flask.testing import FlaskClient

import tidings_hub.web
from tidings_hub.web import sdk

STATIC = Path(tidings_hub.web.__file__).parent / "static"


def test_demo_page_is_served_only_in_dev_mode(dev: FlaskClient, anonymous: FlaskClient) -> None:
    assert 'data-channel="demo:hello"' in dev.get("/").text
    response = anonymous.get("/")
    assert response.status_code == 200
    assert "tidings hub is running" in response.text
    assert "script" not in response.text
    json_response = anonymous.get("/", headers={"Accept": "application/json"})
    assert json_response.json == {"message": "tidings hub is running"}


def test_demo_page_has_no_inline_code_and_no_external_files(dev: FlaskClient) -> None:
    response = dev.get("/")
    policy = response.headers["Content-Security-Policy"]

    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"<script(?![^>]*\ssrc=)", response.text)
    assert not re.search(r"\s(style|on\w+)=", response.text)
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", response.text)


def test_every_file_of_the_demo_page_is_served(dev: FlaskClient) -> None:
    paths = re.findall(r"(?:src|href)=\"(/static/[^\"]+)\"", dev.get("/").text)
    assert len(paths) >= 3
    for path in paths:
        response = dev.get(path)
        assert response.status_code == 200
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        response.close()


@pytest.mark.parametrize("path", ["/static/../app.py", "/static/..%2fapp.py", "/static/%2e%2e/app.py"])
def test_files_outside_the_static_folder_are_not_served(dev: FlaskClient, path: str) -> None:
    assert dev.get(path).status_code == 404


def test_scripts_of_the_demo_page_do_not_create_markup_from_strings() -> None:
    scripts = list(STATIC.glob("*.js"))
    assert len(scripts) >= 5
    for script in scripts:
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", script.read_text())


def test_demo_page_explains_how_to_build_a_missing_sdk(
    dev: FlaskClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sdk, "FOLDER", tmp_path)
    assert "make setup" in dev.get("/").text
    (tmp_path / "tidings.js").write_text("")
    assert "make setup" not in dev.get("/").text


def test_sdk_is_served_to_pages_of_any_origin(anonymous: FlaskClient) -> None:
    for name in sdk.NAMES:
        media_type = "application/json" if name.endswith(".map") else "text/javascript; charset=utf-8"
        response = anonymous.get(f"/{name}")
        assert response.status_code == 200, "make setup builds it"
        assert response.content_type == media_type
        assert response.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
        assert response.headers["Cache-Control"] == "no-cache"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        revalidation = anonymous.get(f"/{name}", headers={"If-None-Match": response.headers["ETag"]})
        assert revalidation.status_code == 304
        response.close()
        revalidation.close()
    assert anonymous.post("/tidings.js").status_code == 405
    assert anonymous.get("/tidings.mjs").status_code == 404


def test_missing_sdk_is_404_with_the_fix(
    anonymous: FlaskClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sdk, "FOLDER", tmp_path)
    response = anonymous.get("/tidings.js")
    assert response.status_code == 404
    assert "make setup" in response.text


@pytest.mark.parametrize(
    ("accepted", "is_compressed"),
    [("gzip, deflate, br", True), ("x-gzip", True), ("gzip;q=0", False), ("br", False), ("", False)],
)
def test_sdk_is_compressed_for_clients_that_accept_it(
    anonymous: FlaskClient, accepted: str, *, is_compressed: bool
) -> None:
    path, headers = "/tidings.js", {"Accept-Encoding": accepted}
    size_bytes = (sdk.FOLDER / "tidings.js").stat().st_size
    with closing(anonymous.get(path, headers=headers)) as response:
        assert response.headers.get("Content-Encoding") == ("gzip" if is_compressed else None)
        assert response.headers["Vary"] == "Accept-Encoding"
        sent = response.data
        etag = response.headers["ETag"]
    assert len(gzip.decompress(sent) if is_compressed else sent) == size_bytes
    assert len(sent) < size_bytes / 2 or not is_compressed
    with closing(anonymous.get(path, headers=headers | {"If-None-Match": etag})) as revalidation:
        assert revalidation.status_code == 304
    with closing(anonymous.head(path, headers=headers)) as head:
        assert head.headers["Content-Length"] == str(len(sent))
