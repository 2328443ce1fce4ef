"""A push service of our own over TLS, and the key of the application."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.network.certificates import Authority
from support.network.push_service import PushService
from tidings_notifications.web_push.vapid import VapidKey


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("push") / "authority")


@pytest.fixture
def push_service(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Iterator[PushService]:
    # The variable of OpenSSL: the sender trusts what the system trusts.
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    with PushService(authority) as service:
        yield service


@pytest.fixture
def vapid_key(tmp_path: Path) -> VapidKey:
    return VapidKey.create(tmp_path / "vapid.pem")
