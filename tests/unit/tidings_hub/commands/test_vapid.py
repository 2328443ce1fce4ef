from __future__ import annotations

from pathlib import Path

import pytest

from tidings_hub.cli import main
from tidings_notifications.web_push.vapid import VapidKey


def test_it_makes_a_key_once_and_prints_its_public_half(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "vapid.pem"
    assert main(["vapid", str(file)]) == 0
    printed = capsys.readouterr().out.strip()
    assert printed == VapidKey.load(file).public_key
    assert file.stat().st_mode & 0o777 == 0o600
    assert main(["vapid", str(file)]) == 2
    assert "exists" in capsys.readouterr().err
    assert main(["vapid", "--show", str(file)]) == 0
    assert capsys.readouterr().out.strip() == printed


def test_file_is_that_of_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "hub.toml"
    config.write_text(
        f'[notifications.web_push]\nvapid_key_file = "{tmp_path}/keys.pem"\ncontact = "mailto:ops@shop.example"\n'
    )
    assert main(["vapid", "--config", str(config)]) == 0
    assert (tmp_path / "keys.pem").is_file()
    config.write_text("")
    assert main(["vapid", "--config", str(config)]) == 0
    assert (tmp_path / "vapid.pem").is_file()
    assert "vapid.pem" in capsys.readouterr().err


def test_folder_that_does_not_exist_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vapid", str(tmp_path / "missing" / "vapid.pem")]) == 2
    assert "cannot write" in capsys.readouterr().err
