from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tidings_hub.core.herd.shared_reads import merge_reads

_CLIENTS = st.lists(
    st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 50) | st.none(), min_size=1, max_size=8), max_size=12
)


def test_clients_of_the_same_channel_share_one_read_after_the_least_seq() -> None:
    (read,) = merge_reads([(["a", "b"], {"a": 7, "b": 7}), (["a", "c"], {"a": 3, "c": 3})], channels_max=10)
    assert list(read.channels) == ["a", "b", "c"]
    assert read.after == {"a": 3, "b": 7, "c": 3}
    assert read.readers == [0, 1]


def test_channels_of_one_client_stay_together() -> None:
    reads = merge_reads([(["a", "b"], {}), (["b", "c"], {}), (["d", "e", "f", "g"], {}), (["a"], {})], channels_max=3)
    assert [list(read.channels) for read in reads] == [["a", "b", "c"], ["d", "e", "f", "g"], ["a"]]


def test_client_without_a_seq_does_not_limit_the_read_of_others() -> None:
    (read,) = merge_reads([(["a"], {}), (["a"], {"a": 9})], channels_max=3)
    assert read.after == {"a": 9}


@given(_CLIENTS, st.integers(1, 10))
def test_each_client_finds_all_it_needs_in_one_read(clients: list[dict[str, int | None]], channels_max: int) -> None:
    requests = [(list(client), {name: seq for name, seq in client.items() if seq is not None}) for client in clients]
    reads = merge_reads(requests, channels_max=channels_max)
    assert [reader for read in reads for reader in read.readers] == list(range(len(clients)))
    for read in reads:
        assert len(read.channels) <= channels_max or len(read.readers) == 1
        first, _ = requests[read.readers[0]]
        assert list(read.channels)[: len(first)] == first
        for channels, after in (requests[reader] for reader in read.readers):
            assert set(channels) <= set(read.channels)
            assert all(read.after[name] <= seq for name, seq in after.items())
