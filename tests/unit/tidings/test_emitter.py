from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from support.models import Note, Thing
from tidings.async_emitter import AsyncEmitter
from tidings.emitter import Emitter
from tidings.errors import (
    BadChannel,
    BadConfig,
    Unavailable,
)
from tidings.receipts import Receipt


class TestEmitter:
    def test_returns_receipts(self, url: str, stored: Callable[[str], Any]) -> None:
        with Emitter(url) as emitter:
            first = emitter.emit("first", {"n": 1}, channel="a:1", id="x")
            second = emitter.emit("second", channels=["a:1", "a:2"])
            third = emitter.emit("third", user="7")
            repeated = emitter.emit("first", {"n": 1}, channel="a:1", id="x")
        assert first.id == "x"
        assert not first.duplicate
        assert repeated == Receipt("x", first.cursor, duplicate=True)
        assert len({first.cursor, *(receipt.cursor for receipt in second), third.cursor}) == 4
        assert stored("a:1") == [("first", {"n": 1}), ("second", None)]
        assert stored("user:7") == [("third", None)]

    def test_pushes_models(self, url: str, stored: Callable[[str], Any]) -> None:
        emitter = Emitter(url)
        emitter.register(Note, channels=lambda _: "notes:all", version=lambda _: 3)
        assert isinstance(emitter.push_model(Thing(5), channel="a:1", version=1), Receipt)
        assert len(emitter.push_model(Thing(5), op="deleted", version=2)) == 2
        assert len(emitter.push_model(Note())) == 1
        data = {"class": "Thing", "model": {"id": 5}, "op": "updated", "version": 1, "version_kind": "given"}
        assert stored("a:1") == [("updated_model", data)]
        assert stored("list:things")[0][1]["op"] == "deleted"
        assert stored("notes:all")[0][1] == {
            "class": "Note",
            "model": {"text": "hello"},
            "op": "updated",
            "version": 3,
            "version_kind": "given",
        }

    def test_registered_rules_belong_to_one_emitter(self, url: str) -> None:
        Emitter(url).register(Note, channels=["notes:all"])
        with pytest.raises(BadChannel, match="no channel for a Note"):
            Emitter(url).push_model(Note())

    def test_a_misspelt_option_is_an_error(self, url: str) -> None:
        with pytest.raises(TypeError, match="unexpected options: exlude"):
            Emitter(url).push_model(Thing(1), exlude=["id"])  # type: ignore[call-overload]

    def test_closed_emitter_is_unavailable(self, url: str) -> None:
        emitter = Emitter(url)
        emitter.close()
        emitter.close()
        with pytest.raises(Unavailable, match="closed"):
            emitter.emit("e", channel="a:1")

    def test_invalid_settings_are_rejected(self) -> None:
        for settings in ({"timeout_s": 0}, {"timeout_s": float("nan")}, {"publication_max_bytes": 0}, {"batch_max": 0}):
            with pytest.raises(BadConfig):
                Emitter("memory://", **settings)

    @pytest.mark.parametrize("url", ["", "redis", "localhost:6379", "mqtt://user:hunter2@host", "//hunter2"])
    def test_unknown_url_is_rejected_without_repeating_it(self, url: str) -> None:
        for kind in (Emitter, AsyncEmitter):
            with pytest.raises(BadConfig, match="redis") as caught:
                kind(url)
            assert "hunter2" not in str(caught.value)

    def test_repr_contains_no_password(self) -> None:
        text = repr(Emitter("redis://user:hunter2@redis.example:6380/1?client_name=hunter2"))
        assert text == "Emitter('redis://redis.example:6380/1')"
        assert repr(AsyncEmitter("redis://:hunter2@redis.example")) == "AsyncEmitter('redis://redis.example')"

    def test_an_api_key_needs_an_http_url(self) -> None:
        with pytest.raises(BadConfig, match="api_key is only for http"):
            Emitter("redis://localhost", api_key="k")

    def test_settings_from_the_environment(self) -> None:
        emitter = Emitter.from_env({"TIDINGS_URL": "https://hub.example/x", "TIDINGS_API_KEY": "k" * 32})
        assert repr(emitter) == "Emitter('https://hub.example/x')"
        assert repr(Emitter.from_env({})) == "Emitter('redis://localhost:6379/0')"
        # Several programs often share an environment, so the key may belong to another one.
        assert repr(AsyncEmitter.from_env({"TIDINGS_URL": "redis://r", "TIDINGS_API_KEY": "k"})) == (
            "AsyncEmitter('redis://r')"
        )


@pytest.mark.parametrize(
    "setting",
    [
        {"timeout_s": "5"},
        {"timeout_s": None},
        {"batch_max": "1"},
        {"publication_max_bytes": None},
        {"prefix": b"x"},
        {"api_key": 1},
        {"url": None},
        {"url": b"redis://h"},
    ],
    ids=repr,
)
def test_setting_of_another_type_is_bad_config(setting: dict[str, Any]) -> None:
    with pytest.raises(BadConfig):
        Emitter(**setting)
