"""Clients behind proxies."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_network

import pytest

from tidings_hub.engine.trusted_proxies import TrustedProxies


@dataclass
class SmallClient:
    address: tuple[str, int]
    remote: str = ""
    secure: bool = False
    host: str = ""


def read(peer: str, **headers: str) -> tuple[str, bool, str]:
    proxies = TrustedProxies([ip_network("127.0.0.0/8"), ip_network("10.0.0.0/8")])
    client = SmallClient((peer, 1))
    proxies.read_client(client, {name.replace("_", "-"): value for name, value in headers.items()})
    return client.remote, client.secure, client.host


FORWARDED = {"host": "hub", "x_forwarded_proto": "https", "x_forwarded_host": "shop.example"}


def test_headers_of_other_peers_are_ignored() -> None:
    assert read("9.9.9.9", x_forwarded_for="1.1.1.1", **FORWARDED) == ("9.9.9.9", False, "hub")


@pytest.mark.parametrize(
    ("header", "remote"),
    [
        ("9.9.9.9", "9.9.9.9"),
        ("6.6.6.6, 9.9.9.9, 10.0.0.7", "9.9.9.9"),
        ("10.0.0.8, 10.0.0.7", "10.0.0.8"),
        ("", "127.0.0.1"),
        ("x" * 100, "x" * 64),
    ],
)
def test_first_untrusted_address_from_the_right_is_the_client(header: str, remote: str) -> None:
    assert read("127.0.0.1", x_forwarded_for=header, **FORWARDED) == (remote, True, "shop.example")


def test_host_of_the_proxy_counts_if_it_forwards_none() -> None:
    assert read("127.0.0.1", host="hub") == ("127.0.0.1", False, "hub")


def test_text_that_is_no_address_is_not_trusted() -> None:
    assert not TrustedProxies([ip_network("0.0.0.0/0")]).contains("unix")


CLIENT = ("9.9.9.9", True, "shop.example")


@pytest.mark.parametrize("scheme", ["https", "HTTPS", "wss"])
def test_client_used_tls(scheme: str) -> None:
    assert read("127.0.0.1", host="hub", x_forwarded_proto=scheme) == ("127.0.0.1", True, "hub")


@pytest.mark.parametrize("scheme", ["http", "ws", "", "https2", "httphttps"])
def test_client_did_not_use_tls(scheme: str) -> None:
    assert not read("127.0.0.1", x_forwarded_for="9.9.9.9", x_forwarded_proto=scheme)[1]


@pytest.mark.parametrize(
    ("addresses", "schemes", "hosts"),
    [
        # The first proxy terminates TLS, the second one speaks HTTP to it. Both are trusted.
        ("9.9.9.9, 10.0.0.7", "https, http", "shop.example, inner"),
        ("9.9.9.9, 10.0.0.7", "https", "shop.example"),
        ("9.9.9.9,10.0.0.7", "https,http", "shop.example,inner"),
        # What the client wrote itself is further to the left.
        ("6.6.6.6, 9.9.9.9, 10.0.0.7", "http, https, http", "evil, shop.example, inner"),
    ],
)
def test_lists_describe_the_same_hop_as_the_address(addresses: str, schemes: str, hosts: str) -> None:
    headers = {"x_forwarded_for": addresses, "x_forwarded_proto": schemes, "x_forwarded_host": hosts}
    assert read("127.0.0.1", host="hub", **headers) == CLIENT


@pytest.mark.parametrize(
    "forwarded",
    [
        "for=9.9.9.9;proto=https;host=shop.example",
        'For="9.9.9.9:4711"; Proto=HTTPS; Host="shop.example"',
        "for=6.6.6.6;proto=http;host=evil, for=9.9.9.9;proto=https;host=shop.example;by=_a, for=10.0.0.7;proto=http",
        'for="6.6.6.6, 7.7.7.7";host=evil,for=9.9.9.9;proto=https;host=shop.example',
    ],
)
def test_forwarded_header_of_rfc_7239(forwarded: str) -> None:
    assert read("127.0.0.1", host="hub", forwarded=forwarded) == CLIENT


@pytest.mark.parametrize(
    ("forwarded", "remote"),
    [
        ('for="[2001:db8::1]:4711"', "2001:db8::1"),
        ("for=unknown", "unknown"),
        ("for=_hidden", "_hidden"),
        ("proto=https", "127.0.0.1"),
        ("nonsense", "127.0.0.1"),
        ('for="', "127.0.0.1"),
        ("", "127.0.0.1"),
    ],
)
def test_address_of_a_forwarded_header(forwarded: str, remote: str) -> None:
    assert read("127.0.0.1", forwarded=forwarded)[0] == remote


@pytest.mark.parametrize("name", ["x_forwarded_for", "x_forwarded_proto", "x_forwarded_host"])
def test_forwarded_header_counts_only_without_x_forwarded_headers(name: str) -> None:
    """A client may have written it, and the proxy passes it on."""
    headers = {name: "http", "forwarded": "for=6.6.6.6;proto=https;host=evil"}
    assert "6.6.6.6" not in read("127.0.0.1", **headers)
    assert not read("127.0.0.1", **headers)[1]


@pytest.mark.parametrize("peer", ["::ffff:127.0.0.1", "::FFFF:10.1.2.3"])
def test_peer_of_a_socket_for_both_families_is_an_ipv4_address(peer: str) -> None:
    assert read(peer, x_forwarded_for="9.9.9.9", **FORWARDED) == CLIENT
    assert read("::ffff:9.9.9.9", x_forwarded_for="6.6.6.6", **FORWARDED) == ("9.9.9.9", False, "hub")


@pytest.mark.parametrize("hop", ["10.0.0.7:4711", "::ffff:10.0.0.7", "[::ffff:10.0.0.7]:80"])
def test_hop_may_have_a_port(hop: str) -> None:
    assert read("127.0.0.1", x_forwarded_for=f"9.9.9.9:5000, {hop}", **FORWARDED) == CLIENT


@pytest.mark.parametrize("text", [",", 'a",', '"\\"', ";for=", 'for="', 'for="a,b",'])
def test_forwarded_header_costs_time_in_proportion_to_its_size(text: str) -> None:
    """With a search from each comma to the end, this took hours; 14 KB took a second."""
    read("127.0.0.1", forwarded=text * 100_000)
