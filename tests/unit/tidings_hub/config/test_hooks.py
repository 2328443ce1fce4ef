from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.network.hook_server import SECRET
from tidings.errors import BadConfig
from tidings_hub.config.load import load
from tidings_hub.config.render import as_toml

TABLE = {"url": "https://shop.example/tidings", "events": ["connect"], "secret": SECRET}


def test_table_is_read_from_json_in_the_environment_and_its_secret_is_masked(nowhere: Path) -> None:
    loaded = load(env={"TIDINGS_HOOKS": json.dumps(TABLE)})
    assert loaded.settings.hooks.events == ("connect",)
    assert loaded.settings.hooks.signing_secret() == SECRET
    toml = as_toml(loaded)
    assert SECRET not in toml
    assert "https://shop.example/tidings" in toml
    assert SECRET not in repr(loaded.settings)


def test_unknown_name_is_rejected_with_the_most_similar_one(nowhere: Path) -> None:
    with pytest.raises(BadConfig, match="did you mean events"):
        load(env={"TIDINGS_HOOKS": json.dumps({**TABLE, "event": ["connect"]})})


def test_without_events_no_hook_is_sent_and_no_setting_is_required(nowhere: Path) -> None:
    assert load(env={}).settings.hooks.events == ()


def test_fail_open_is_an_insecure_option(nowhere: Path) -> None:
    fail_open = load(env={"TIDINGS_HOOKS": json.dumps({**TABLE, "fail_open": True})}).settings
    assert any("fail_open" in option for option in fail_open.insecure_options())
    fail_closed = load(env={"TIDINGS_HOOKS": json.dumps(TABLE)}).settings
    assert not any("hooks" in option for option in fail_closed.insecure_options())
