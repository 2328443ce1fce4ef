from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.network.hook_server import SECRET
from tidings.errors import BadConfig
from tidings_hub.config.load import load
from tidings_hub.config.render import as_toml

TABLE = {"url": "https://shop.example/tidings", "events": ["connect"], "secret": SECRET}


def test_the_table_comes_from_the_environment_as_json_and_its_secret_is_not_shown(nowhere: Path) -> None:
    loaded = load(env={"TIDINGS_HOOKS": json.dumps(TABLE)})
    assert loaded.settings.hooks.events == ("connect",)
    assert loaded.settings.hooks.signing_secret() == SECRET
    shown = as_toml(loaded)
    assert SECRET not in shown
    assert "https://shop.example/tidings" in shown
    assert SECRET not in repr(loaded.settings)


def test_an_unknown_name_is_refused_with_the_nearest_right_one(nowhere: Path) -> None:
    with pytest.raises(BadConfig, match="did you mean events"):
        load(env={"TIDINGS_HOOKS": json.dumps({**TABLE, "event": ["connect"]})})


def test_without_events_nobody_is_asked_and_nothing_is_needed(nowhere: Path) -> None:
    assert load(env={}).settings.hooks.events == ()


def test_failing_open_is_called_insecure(nowhere: Path) -> None:
    open_ = load(env={"TIDINGS_HOOKS": json.dumps({**TABLE, "fail_open": True})}).settings
    assert any("fail_open" in each for each in open_.insecure_options())
    assert not any(
        "hooks" in each for each in load(env={"TIDINGS_HOOKS": json.dumps(TABLE)}).settings.insecure_options()
    )
