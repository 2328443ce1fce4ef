"""Errors of settings are in plain words, with the name and the source of the setting."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidings.errors import BadConfig
from tidings_hub.config.load import load


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("port = true", "port (file): must be a number, not true or false"),
        ("ping_interval_s = false", "ping_interval_s (file): must be a number, not true or false"),
        ("[namespaces.a]\nhistory = true", "namespaces.a.history (file): must be a number, not true or false"),
        ('port = "abc"', "port (file): must be a whole number"),
        ("port = 8000.5", "port (file): must be a whole number"),
        ("port = 99999", "port (file): must be at most 65535"),
        ("port = -1", "port (file): must be at least 0"),
        ("ping_interval_s = nan", "ping_interval_s (file): must be a number that is finite"),
        ("host = 5", "host (file): must be text"),
        ('trusted_proxies = "127.0.0.1"', "trusted_proxies (file): must be a list"),
        ("namespaces = 5", "namespaces (file): must be a table"),
        ('[namespaces.a]\npresence = "maybe"', "namespaces.a.presence (file): must be true or false"),
        ('log_level = "loud"', "log_level (file): must be one of 'debug', 'info', 'warning' or 'error'"),
    ],
)
def test_error_is_in_plain_words(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "tidings.toml").write_text(text, encoding="utf-8")
    with pytest.raises(BadConfig) as caught:
        load(file=tmp_path / "tidings.toml")
    assert str(caught.value) == message


def test_numbers_of_the_environment_are_text() -> None:
    assert load(env={"TIDINGS_PORT": "8001"}).settings.port == 8001
    with pytest.raises(BadConfig, match=r"port \(environment\): must be a whole number"):
        load(env={"TIDINGS_PORT": "true"})
