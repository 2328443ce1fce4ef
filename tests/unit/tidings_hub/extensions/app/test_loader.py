from __future__ import annotations

import itertools
import re
import sys
from pathlib import Path

import pytest

from tidings.errors import BadConfig
from tidings_hub.extensions.app.app import App
from tidings_hub.extensions.app.loader import load_app, load_wsgi

_NUMBERS = itertools.count()


@pytest.fixture
def module(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of a module that no other test has imported. The test writes it."""
    monkeypatch.setattr("sys.path", list(sys.path))
    return nowhere / f"module_of_a_test_{next(_NUMBERS)}.py"


def test_the_only_app_of_a_module_is_found(module: Path) -> None:
    module.write_text("from tidings_hub import App\nmine = App()\nsame = mine")
    assert isinstance(load_app(module.stem), App)
    assert load_app(f"{module.stem}:mine") is load_app(module.stem)


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("x = 1", "", "has no tidings_hub.App"),
        ("x = 1", ":x", "is not a tidings_hub.App"),
        ("x = 1", ":y", "is not a tidings_hub.App"),
        ("from tidings_hub import App\na, b = App(), App()", "", "has 2 tidings_hub.App"),
        ("import nothing_of_that_name", "", "no module nothing_of_that_name"),
        ("1 / 0", "", "cannot be imported: ZeroDivisionError"),
        ("import sys\nsys.exit()", "", "cannot be imported: SystemExit"),
        ("import argparse\nargparse.ArgumentParser().error('x')", "", "cannot be imported: SystemExit"),
        ("from tidings_hub import App\nApp().on('tidings:x')", "", "cannot be imported: BadEvent"),
        ("from tidings_hub import App\nApp().on_connect(lambda: 1)", "", "must take an argument"),
    ],
)
def test_errors_of_loading_are_reported(module: Path, text: str, name: str, message: str) -> None:
    module.write_text(text)
    with pytest.raises(BadConfig, match=re.escape(message)):
        load_app(module.stem + name)


def test_a_wsgi_application_is_found_by_its_name(module: Path) -> None:
    module.write_text("def app(environ, start_response):\n    return []\napplication = app\nnumber = 1")
    assert load_wsgi(module.stem) is load_wsgi(f"{module.stem}:application")
    for name in ("number", "nothing"):
        with pytest.raises(BadConfig, match="no WSGI application"):
            load_wsgi(f"{module.stem}:{name}")


def test_error_names_the_missing_module() -> None:
    with pytest.raises(BadConfig, match="no module nothing_of_that_name"):
        load_app("nothing_of_that_name.realtime")
