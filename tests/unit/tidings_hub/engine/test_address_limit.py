from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidings_hub.engine.address_limit import AddressLimit, address_key


@pytest.mark.parametrize(
    ("remote", "counted"),
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
def test_what_counts_as_one_address(remote: str, counted: str) -> None:
    assert address_key(remote) == counted


@given(st.text(max_size=64))
def test_no_text_from_a_proxy_breaks_it(remote: str) -> None:
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
def test_it_holds_only_addresses_that_have_a_session(steps: list[tuple[str, bool]]) -> None:
    addresses, there = AddressLimit(5), []
    for remote, comes in steps:
        if comes and addresses.has_room(remote):
            addresses.add(remote)
            there.append(remote)
        elif not comes and remote in there:
            there.remove(remote)
            addresses.remove(remote)
        counts = [address_key(each) for each in there]
        assert len(addresses) == len(set(counts))
        assert all(
            addresses.has_room(each) == (counts.count(address_key(each)) < 5) for each in ("a", "::9", "1.2.3.4")
        )


def test_without_a_limit_nothing_is_counted() -> None:
    addresses = AddressLimit(0)
    for _ in range(1000):
        assert addresses.has_room("192.0.2.1")
        addresses.add("192.0.2.1")
    assert len(addresses) == 0
    addresses.remove("192.0.2.1")
