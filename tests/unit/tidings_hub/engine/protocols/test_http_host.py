"""Which hosts are this machine."""

from __future__ import annotations

import pytest

from tidings_hub.engine.protocols.http_host import LocalHosts, hostname

LOCAL = [
    "localhost",
    "LOCALHOST",
    "localhost.",
    "localhost.:8000",
    "localhost:8000",
    "shop.localhost:8000",
    "127.0.0.1",
    "127.0.0.1:8000",
    "127.8.9.1",
    "[::1]",
    "[::1]:8000",
    "[0:0:0:0:0:0:0:1]:80",
    "[::ffff:127.0.0.1]:80",
]
FOREIGN = [
    "evil.example",
    "evil.example:8000",
    "localhost.evil.example",
    "evillocalhost",
    "127.0.0.1.evil.example",
    "127.0.0.1.nip.io:8000",
    "10.0.0.1",
    "0.0.0.0:8000",
    "[::]",
    "[2001:db8::1]:8000",
    "[::ffff:10.0.0.1]",
    "2130706433",
    "127.1",
    "::1",
    "localhost@evil.example",
    "evil.example@localhost",
    "localhost:8000:evil.example",
    "localhost:x",
    "localhost,evil.example",
    "localhost evil.example",
    "localhost/evil.example",
    "localhost\t",
    "localhost..",
    "[localhost]",
    "[::1",
    "\u24db\u24de\u24d2\u24d0\u24db\u24d7\u24de\u24e2\u24e3",
]


@pytest.mark.parametrize("host", LOCAL)
def test_loopback_names_and_addresses_are_this_machine(host: str) -> None:
    assert LocalHosts(()).allows(host)


@pytest.mark.parametrize("host", FOREIGN)
def test_all_other_hosts_are_foreign(host: str) -> None:
    assert not LocalHosts(()).allows(host)


def test_missing_host_is_allowed() -> None:
    assert LocalHosts(()).allows("")


def test_hosts_of_listed_origins_are_allowed() -> None:
    hosts = LocalHosts(("https://My.example", "http://192.168.1.5:5173"))
    assert hosts.allows("my.example")
    assert hosts.allows("192.168.1.5:8000")
    assert hosts.allows("localhost")
    assert not hosts.allows("other.example")
    assert LocalHosts(("*",)).allows("other.example")


def test_hostname_has_neither_port_nor_final_dot() -> None:
    assert hostname("Shop.Example.:443") == "shop.example"
    assert hostname("[2001:DB8::1]:443") == "2001:db8::1"
    assert hostname("a:b") == ""
