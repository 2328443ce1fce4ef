"""The limit of sessions per client address."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidings_hub.engine.capacity.address_limit import AddressLimit, address_key


@pytest.mark.parametrize(
    ("remote", "key"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("192.0.2.7:5123", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::"),
        ("[2001:db8:1:2::9]:443", "2001:db8:1:2::"),
        ("2001:db8:1:3::", "2001:db8:1:3::"),
        ("::1", "::"),
        ("unknown", "unknown"),
        ("_hidden:x:y", "_hidden:x:y"),
        ("", ""),
        ("[", "["),
        ("]:[::", "]:[::"),
        ("fe80::1%eth0", "fe80::"),
    ],
)
def test_address_key_of_a_remote_address(remote: str, key: str) -> None:
    assert address_key(remote) == key


@given(st.text(max_size=64))
def test_any_text_from_a_proxy_is_accepted(remote: str) -> None:
    addresses = AddressLimit(1)
    assert addresses.has_room(remote)
    addresses.add(remote)
    assert not addresses.has_room(remote)
    addresses.remove(remote)
    assert len(addresses) == 0


def test_each_address_has_its_own_limit() -> None:
    addresses = AddressLimit(2)
    for _ in range(2):
        assert addresses.has_room("192.0.2.1")
        addresses.add("192.0.2.1")
    assert not addresses.has_room("192.0.2.1")
    assert addresses.has_room("192.0.2.2")
    addresses.remove("192.0.2.1")
    assert addresses.has_room("192.0.2.1")


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "::1", "::2", "1.2.3.4"]), st.booleans()), max_size=60))
def test_only_addresses_with_a_session_are_stored(steps: list[tuple[str, bool]]) -> None:
    addresses, connected = AddressLimit(5), []
    for remote, is_connect in steps:
        if is_connect and addresses.has_room(remote):
            addresses.add(remote)
            connected.append(remote)
        elif not is_connect and remote in connected:
            connected.remove(remote)
            addresses.remove(remote)
        keys = [address_key(address) for address in connected]
        assert len(addresses) == len(set(keys))
        assert all(
            addresses.has_room(address) == (keys.count(address_key(address)) < 5) for address in ("a", "::9", "1.2.3.4")
        )


def test_limit_of_zero_means_no_limit_and_no_counting() -> None:
    addresses = AddressLimit(0)
    for _ in range(1000):
        assert addresses.has_room("192.0.2.1")
        addresses.add("192.0.2.1")
    assert len(addresses) == 0
    addresses.remove("192.0.2.1")
