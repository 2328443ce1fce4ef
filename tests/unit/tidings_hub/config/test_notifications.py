from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

import pytest

from tidings.errors import BadConfig
from tidings_hub.config.fields import SettingsModel
from tidings_hub.config.load import load
from tidings_hub.config.notifications import (
    NotificationCategory,
    Notifications,
    listen_address,
    service_key,
    service_keys,
)
from tidings_hub.config.render import as_toml
from tidings_hub.config.settings import Settings
from tidings_hub.metrics import Metrics, render
from tidings_notifications.metrics import ServiceMetrics

SECRET = "kT3xw9LpQ2vB7mZr5cYh8nDs4fGj6aUe"
OLD_SECRET = "aZ8yP1qW4nC6vX0sR7tB2mK9jH5gF3dL"


def loaded_from(folder: Path, text: str) -> Settings:
    file = folder / "tidings.toml"
    file.write_text(text)
    return load(file=file, env={}).settings


def test_categories_and_limits_are_read(tmp_path: Path) -> None:
    text = (
        '[notifications]\nkeep_days = 7\n[notifications.categories.order_shipped]\nlabel = "Shipping"\ndigest_s = 60\n'
    )
    options = loaded_from(tmp_path, text).notifications
    assert options.keep_days == 7
    assert options.categories == {"order_shipped": NotificationCategory(label="Shipping", digest_s=60)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[notifications.categories.Order]", "cannot be a category"),
        ("[notifications.categories.order-shipped]", "cannot be a category"),
        (f"[notifications.categories.{'a' * 65}]", "cannot be a category"),
        ('[notifications.categories.a]\npush = "always"', "unknown setting"),
        ("[notifications.categories.a]\nrequird = true", "did you mean required"),
        ('[notifications]\nkeepdays = 3\nlisten = "x"', "did you mean keep_days"),
        ('[notifications]\nlisten = "127.0.0.1"', "host:port"),
        ('[notifications]\nlisten = "127.0.0.1:65536"', "host:port"),
        ('[notifications]\nlisten = "user@host:1"', "host:port"),
        ('[notifications]\nurl = "127.0.0.1:8010"', "http://host:port"),
        ('[notifications]\nurl = "ftp://127.0.0.1:8010"', "http://host:port"),
        ('[notifications]\nurl = "http://127.0.0.1:8010/inbox"', "without a path"),
        ('[notifications]\nurl = "http://ann:pa55word@127.0.0.1"', "without a path or a password"),
        ('[notifications]\nurl = "http://127.0.0.1:65536"', "[Pp]ort"),
        ('[notifications.categories.a]\nwebhook = "https://shop.example:65536/mail"', "[Pp]ort"),
        ('[notifications.categories.a]\nwebhook = "https://shop.example:0/mail"', "webhook must be an address"),
    ],
)
def test_wrong_setting_is_rejected(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BadConfig, match=message):
        loaded_from(tmp_path, text)


def test_environment_holds_the_table_as_json() -> None:
    settings = load(env={"TIDINGS_NOTIFICATIONS": '{"categories": {"a": {}}}'}).settings
    assert list(settings.notifications.categories) == ["a"]


def test_password_of_the_database_is_masked(tmp_path: Path) -> None:
    file = tmp_path / "tidings.toml"
    file.write_text('[notifications]\ndatabase = "postgresql://ann:pa55word@h/x"\n')
    loaded = load(file=file, env={})
    for text in (as_toml(loaded), repr(loaded.settings)):
        assert "pa55word" not in text


def test_listen_address_may_be_of_ipv6() -> None:
    assert listen_address("[::1]:8010") == ("::1", 8010)
    assert listen_address("localhost:0") == ("localhost", 0)


@pytest.mark.parametrize(
    ("values", "url"),
    [
        ({}, None),
        ({"database": "sqlite:///x.db"}, "http://127.0.0.1:8010"),
        ({"database": "sqlite:///x.db", "listen": "[::1]:1"}, "http://[::1]:1"),
        ({"database": "sqlite:///x.db", "listen": "0.0.0.0:8010"}, "http://127.0.0.1:8010"),
        ({"database": "sqlite:///x.db", "listen": "[::]:8010"}, "http://[::1]:8010"),
        ({"database": "sqlite:///x.db", "listen": "127.0.0.1:0"}, None),
        ({"database": "sqlite:///x.db", "url": "https://inbox.internal/"}, "https://inbox.internal"),
        ({"url": "http://10.0.0.7:8010"}, "http://10.0.0.7:8010"),
    ],
)
def test_nodes_reach_the_service_at_its_url_or_where_it_listens(values: dict[str, str], url: str | None) -> None:
    assert Notifications.model_validate(values).service_url() == url


def test_service_accepts_a_key_for_each_shared_secret() -> None:
    settings = Settings.model_validate({"secret": SECRET, "keys": [{"kid": "old", "secret": OLD_SECRET}]})
    keys = [
        hmac.new(secret.encode(), b"tidings notifications", hashlib.sha256).hexdigest()
        for secret in (SECRET, OLD_SECRET)
    ]
    assert service_keys(settings) == keys
    assert service_key(settings) == keys[0]


def test_missing_secret_is_an_error() -> None:
    with pytest.raises(BadConfig, match="shared secret"):
        service_key(Settings(dev=True))


def test_each_policy_names_a_metric_of_the_service_or_of_a_node() -> None:
    text = ServiceMetrics().render().decode() + render(Metrics(), node="n1").decode()
    models: list[type[SettingsModel]] = [Notifications, NotificationCategory]
    for model in models:
        for name, field in model.model_fields.items():
            extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
            assert bool(extra.get("policy")) == bool(extra.get("metric")), name
            assert not extra.get("metric") or f"tidings_{extra['metric']}" in text, name
