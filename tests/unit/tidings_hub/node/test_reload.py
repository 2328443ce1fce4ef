from __future__ import annotations

from tidings_hub.config.security import Namespace
from tidings_hub.config.settings import Settings
from tidings_hub.node.reload import RELOADABLE, apply_reload

SECRET, OTHER = "kT3xw9LpQ2vB7mZr5cYh8nDs4fGj6aUe", "Zq8Nf2XwT5rY9bLm3sVd7gHk1jPc6eUa"


def test_rules_and_keys_change_and_other_settings_need_a_restart() -> None:
    old = Settings(secret=SECRET, port=8000, namespaces={"orders": Namespace()})
    new = Settings(
        secret=OTHER, port=9000, drain_s=1, namespaces={"chat": Namespace(history=5)}, api_keys=["k" * 9 + "9" * 9]
    )
    settings, need_restart = apply_reload(old, new)
    assert need_restart == ["port", "drain_s"]
    assert (settings.port, settings.drain_s, settings.node_id) == (old.port, old.drain_s, old.node_id)
    assert settings.secret == new.secret
    assert settings.api_keys == new.api_keys
    assert set(settings.rules()) == {"user", "chat"}


def test_generated_node_id_is_not_reported_as_changed() -> None:
    old, new = Settings(secret=SECRET), Settings(secret=SECRET)
    assert apply_reload(old, new) == (old, [])
    assert apply_reload(old, Settings(secret=SECRET, node_id="n7"))[1] == ["node_id"]


def test_every_reloadable_name_is_a_setting() -> None:
    assert set(RELOADABLE) <= set(Settings.model_fields)
