"""The fetch of a JWKS from servers that drip, lie and garble, in threads."""

from __future__ import annotations

import time
from typing import Any

import pytest

from support.network.scripted_server import Script, ScriptedServer, answering, closing_after, dripping, response, silent
from tidings.errors import BadConfig
from tidings.tokens.jwks_fetch import JWKS_MAX_BYTES, JwksFetch, is_loopback

OK = b"HTTP/1.1 200 OK\r\n"
BODY = b'{"keys":[]}'


@pytest.mark.parametrize(
    "script",
    [
        answering(response(BODY)),
        answering(response(BODY, headers=b"Content-Type: text/plain\r\n")),
        closing_after(b"HTTP/1.0 200 OK\r\n\r\n" + BODY),
        answering(OK + b"Transfer-Encoding: chunked\r\n\r\nb\r\n" + BODY + b"\r\n0\r\n\r\n"),
    ],
)
def test_document_is_fetched(script: Script) -> None:
    with ScriptedServer(script) as server:
        assert JwksFetch(f"{server.url}/jwks?tenant=1", timeout_s=5)() == BODY


@pytest.mark.parametrize(
    "script",
    [
        answering(response(b"", status=404)),
        answering(response(BODY, status=500)),
        answering(response(BODY, status=302, headers=b"Location: /elsewhere\r\n")),
        answering(response(BODY, status=201)),
        answering(OK + b"Content-Length: %d\r\n\r\n" % (JWKS_MAX_BYTES + 1)),
        closing_after(OK + b"\r\n" + b" " * (JWKS_MAX_BYTES + 1)),
        answering(OK + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n"),
        answering(OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n"),
        answering(b"SSH-2.0-OpenSSH_9.6\r\n"),
        answering(b"\x16\x03\x01\x00\xa5\x01\x00\x00"),
        answering(response(BODY, headers=b"Content-Encoding: gzip\r\n")),
        closing_after(OK + b"Content-Length: 100\r\n\r\n" + BODY),
        closing_after(b""),
    ],
)
def test_anything_but_a_complete_response_with_200_is_an_error(script: Script) -> None:
    with ScriptedServer(script) as server:
        with pytest.raises(OSError):
            JwksFetch(f"{server.url}/jwks", timeout_s=1)()
        assert server.connections == 1


@pytest.mark.parametrize(
    "script", [silent, dripping(OK), dripping(OK + b"Content-Length: 5000\r\n\r\n"), dripping(OK + b"\r\n")]
)
def test_fetch_ends_at_its_deadline(script: Script) -> None:
    with ScriptedServer(script) as server:
        began_s = time.monotonic()
        with pytest.raises(TimeoutError):
            JwksFetch(f"{server.url}/jwks", timeout_s=0.4)()
        assert time.monotonic() - began_s < 2


def test_proxies_of_the_environment_are_used_only_if_the_setting_allows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedServer(answering(response(b"", status=502))) as proxy:
        for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.setenv("NO_PROXY", "direct.invalid")
        for options in ({}, {"proxy": ""}):
            with pytest.raises(OSError):
                JwksFetch("https://id.invalid/jwks", timeout_s=1, **options)()
        with pytest.raises(OSError):
            JwksFetch("https://direct.invalid/jwks", timeout_s=1, proxy="environment")()
        assert proxy.connections == 0
        for setting in ("environment", proxy.url):
            with pytest.raises(OSError, match="tunnel: status 502"):
                JwksFetch("https://id.invalid/jwks", timeout_s=1, proxy=setting)()
        assert proxy.connections == 2


def test_http_stays_on_loopback_whatever_its_name_resolves_to(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(*_: Any, **__: Any) -> list[Any]:
        return [(2, 1, 6, "", ("192.0.2.1", 80))]

    monkeypatch.setattr("socket.getaddrinfo", resolve)
    with pytest.raises(OSError, match="not allowed"):
        JwksFetch("http://localhost/jwks", timeout_s=1)()


def test_loopback_addresses() -> None:
    assert all(map(is_loopback, ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"]))
    assert not any(map(is_loopback, ["::ffff:8.8.8.8", "8.8.8.8", "localhost", "", "::ffff:0:127.0.0.1"]))


@pytest.mark.parametrize(
    "proxy",
    ["socks5://127.0.0.1:1080", "proxy:3128", "http://", "http://u:p@proxy:3128", "http://proxy/x", "http://[::1"],
)
def test_malformed_proxy_is_rejected(proxy: str) -> None:
    with pytest.raises(BadConfig, match="proxy"):
        JwksFetch("https://id.example/jwks", timeout_s=1, proxy=proxy)
