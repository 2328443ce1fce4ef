"""In which order hosts are tried, and for how long each."""

from __future__ import annotations

import time

from tidings.redis_client.host_order import HostOrder

HOSTS = [("a", 1), ("b", 2), ("c", 3)]


def order(hosts: HostOrder) -> list[str]:
    """The hosts in the order in which they are tried, all of them."""
    return [host for (host, _), _ in hosts.candidates(time.monotonic() + 60)]


def test_host_that_was_tried_goes_to_the_end() -> None:
    hosts = HostOrder(HOSTS)
    next(hosts.candidates(time.monotonic() + 60))
    assert order(hosts) == ["b", "c", "a"]


def test_host_that_did_not_answer_is_tried_after_all_others() -> None:
    hosts = HostOrder(HOSTS)
    hosts.report_silent(("b", 2))
    for _ in range(4):
        assert order(hosts)[-1] == "b"


def test_first_host_is_preferred_while_it_answers_if_hosts_do_not_rotate() -> None:
    hosts = HostOrder(HOSTS, rotates=False)
    assert order(hosts) == order(hosts) == ["a", "b", "c"]
    hosts.report_silent(("a", 1))
    assert order(hosts) == ["b", "c", "a"]
    hosts.report_answer(("a", 1))
    assert order(hosts) == ["a", "b", "c"]


def test_host_that_answers_again_is_tried_as_before() -> None:
    hosts = HostOrder(HOSTS)
    hosts.report_silent(("b", 2))
    hosts.report_answer(("b", 2))
    assert order(hosts)[-1] != "b"


def test_silent_hosts_are_tried_if_no_other_is_left() -> None:
    hosts = HostOrder(HOSTS)
    for host in HOSTS:
        hosts.report_silent(host)
    assert sorted(order(hosts)) == ["a", "b", "c"]


def test_no_host_gets_all_the_time_while_others_are_left() -> None:
    shares_s = [share_s for _, share_s in HostOrder(HOSTS).candidates(time.monotonic() + 60)]
    assert [round(share_s) for share_s in shares_s] == [20, 30, 60]


def test_no_host_is_tried_after_the_end() -> None:
    assert list(HostOrder(HOSTS).candidates(time.monotonic() - 1)) == []
