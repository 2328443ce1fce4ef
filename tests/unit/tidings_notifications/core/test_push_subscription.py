from __future__ import annotations

from tidings_notifications.core.push_subscription import NewSubscription, StoredSubscription, hash_of


def test_only_its_own_key_fits() -> None:
    row = StoredSubscription("1", "7", "https://push.example/a", "p", "a", hash_of("secret"))
    assert row.has_key("secret")
    assert not row.has_key("Secret")
    assert not row.has_key("")
    assert not row.has_key(row.key_hash)


def test_endpoint_of_any_length_has_a_short_hash() -> None:
    hashes = {NewSubscription("https://push.example/" + "x" * length, "p", "a").endpoint_hash for length in range(2000)}
    assert len(hashes) == 2000
    assert {len(text) for text in hashes} == {43}
