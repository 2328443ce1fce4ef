"""Which polls are repeats: by their id, by pongs, or by the connection of the last response."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

from tidings_hub.engine.protocols.request_history import NO_HISTORY, PollDecision, RequestHistory
from tidings_hub.engine.protocols.request_id import request_id

ACCEPT, REPLAY, END = PollDecision.ACCEPT, PollDecision.REPLAY, PollDecision.END_SESSION


@dataclass
class Carrier:
    """The state of an HTTP connection."""

    remote: str = "192.0.2.1"
    unread: bool = False
    closed: bool = False
    reused: bool = False

    def is_reused(self) -> bool:
        """Whether it carried an earlier request."""
        return self.reused

    def is_unread(self) -> bool:
        """Whether a part of the response is not sent."""
        return self.unread

    def is_closed_by_client(self) -> bool:
        """Whether the client closed it."""
        return self.closed


def opened(handshake: str = "h", *, is_proxied: bool = False) -> RequestHistory:
    history = RequestHistory(request_id(handshake), is_proxied=is_proxied)
    history.response = b"handshake"
    history.start_session()
    return history


def decide(history: RequestHistory, t: str, *, is_waiting: bool = False, intact: bool = True) -> PollDecision:
    return history.decide(request_id(t), is_waiting=is_waiting, is_carrier_intact=intact)


def answered(history: RequestHistory, t: str, response: bytes = b"r") -> None:
    assert decide(history, t) is ACCEPT
    history.response = response


def test_poll_with_a_time_is_never_accepted_on_the_fast_path() -> None:
    history = RequestHistory(request_id("h"), is_proxied=False, has_time_ids=True)
    history.start_session()
    answered(history, "a")
    history.carry(Carrier())
    assert not history.accept_certain(request_id("b"), Carrier())
    assert decide(history, "b") is ACCEPT


def test_repeat_of_an_answered_poll_gets_the_same_response() -> None:
    history = opened()
    answered(history, "a", b"first")
    assert decide(history, "a") is REPLAY
    assert history.replay() == b"first"
    assert decide(history, "b") is ACCEPT


def test_whole_number_among_other_ids_is_an_id() -> None:
    """One of 28,000 values of socket.io-client has digits only."""
    history = opened()
    answered(history, "a")
    history.carry(Carrier())
    assert not history.accept_certain(request_id("17644284"), Carrier())
    answered(history, "17644284", b"second")
    assert decide(history, "17644284") is REPLAY
    assert history.replay() == b"second"
    answered(history, "c")
    assert decide(history, "17644284") is PollDecision.REFUSE_OUTDATED


@pytest.mark.parametrize("handshake", ["h", "1764428400", ""])
def test_whole_numbers_alone_identify_nothing(handshake: str) -> None:
    history = opened(handshake)
    for _ in range(2):
        answered(history, "1764428401")


def test_next_poll_discards_the_last_response() -> None:
    history = opened()
    answered(history, "a")
    assert decide(history, "b") is ACCEPT
    assert history.response is None


def test_late_repeat_of_an_older_poll_is_refused() -> None:
    history = opened()
    for t in "abcd":
        answered(history, t)
    assert [decide(history, t) for t in "abc"] == [PollDecision.REFUSE_OUTDATED] * 3
    assert decide(history, "d") is REPLAY


def test_repeat_of_a_waiting_poll_replaces_it() -> None:
    history = opened()
    assert decide(history, "a") is ACCEPT
    assert decide(history, "a", is_waiting=True) is PollDecision.REPLACE


def test_another_poll_while_one_waits_does_not_take_its_place() -> None:
    history = opened()
    assert decide(history, "a") is ACCEPT
    assert decide(history, "b", is_waiting=True) is PollDecision.REFUSE_OUTDATED
    assert decide(history, "", is_waiting=True) is PollDecision.CONFLICT


def test_endless_repeats_end_the_session() -> None:
    history = opened()
    answered(history, "a")
    for _ in range(3):
        assert decide(history, "a") is REPLAY
        history.replay()
    assert decide(history, "a") is END


def test_constant_t_identifies_nothing() -> None:
    history = opened("same")
    answered(history, "same")
    assert decide(history, "same") is ACCEPT


class TestWithoutId:
    def test_poll_is_accepted_if_nothing_can_be_lost(self) -> None:
        assert decide(opened(), "", intact=False) is ACCEPT

    def test_failed_connection_ends_the_session(self) -> None:
        history = opened()
        answered(history, "")
        assert history.lacks_proof(0)
        assert decide(history, "", intact=False) is END

    def test_poll_with_a_coarse_time_is_not_a_repeat(self) -> None:
        history = opened("1764428400")
        answered(history, "1764428400")
        assert decide(history, "1764428400") is ACCEPT

    @pytest.mark.parametrize(
        ("carrier", "keeps_connections", "intact"),
        [
            (Carrier(), True, True),
            (Carrier(closed=True), True, False),
            (Carrier(closed=True, reused=True), False, False),
            # A client with a connection for each request closes each one.
            (Carrier(closed=True), False, True),
            (Carrier(unread=True), False, False),
            (Carrier(remote="198.51.100.1"), False, False),
        ],
    )
    def test_state_of_the_last_connection(self, carrier: Carrier, keeps_connections: bool, intact: bool) -> None:
        history = opened()
        history.carry(carrier)
        if keeps_connections:
            history.carry(carrier)
        assert history.is_carrier_intact("192.0.2.1") is intact


class TestThroughAProxy:
    def test_next_poll_waits_for_the_pong(self) -> None:
        history = opened(is_proxied=True)
        answered(history, "")
        assert history.needs_pings
        history.add_pings(1)
        assert decide(history, "") is PollDecision.AWAIT_PONG
        assert history.on_pong()
        assert history.is_proven()
        assert decide(history, "") is ACCEPT

    def test_each_ping_needs_its_pong(self) -> None:
        history = opened(is_proxied=True)
        answered(history, "")
        history.add_pings(2)
        assert history.on_pong()
        assert decide(history, "") is PollDecision.AWAIT_PONG

    def test_polls_with_ids_need_no_pings(self) -> None:
        history = opened(is_proxied=True)
        answered(history, "a")
        assert not history.needs_pings
        assert not history.on_pong()


class TestPosts:
    def test_same_id_and_body_is_a_repeat(self) -> None:
        history = opened()
        assert not history.is_repeated_post(request_id("p1"), 1)
        assert history.is_repeated_post(request_id("p1"), 1)
        assert not history.is_repeated_post(request_id("p1"), 2)
        assert not history.is_repeated_post(request_id("p2"), 2)

    def test_late_repeat_of_one_of_the_last_four_is_recognized(self) -> None:
        history = opened()
        posts = [(request_id(f"p{number}"), number) for number in range(5)]
        assert not any(history.is_repeated_post(*post) for post in posts)
        assert all(history.is_repeated_post(*post) for post in posts[1:])
        assert not history.is_repeated_post(*posts[0])

    @pytest.mark.parametrize("t", ["", "1764428400", "h"])
    def test_post_without_an_id_is_never_a_repeat(self, t: str) -> None:
        history = opened("h")
        assert not history.is_repeated_post(request_id(t), 1)
        assert not history.is_repeated_post(request_id(t), 1)


def test_shared_history_of_websockets_does_not_change() -> None:
    state = [getattr(NO_HISTORY, name) for name in RequestHistory.__slots__]
    assert not any(NO_HISTORY.is_repeated_post(request_id("p"), 1) for _ in range(2))
    assert [getattr(NO_HISTORY, name) for name in RequestHistory.__slots__] == state


class TestFastPath:
    """`accept_certain` accepts nothing that `decide` would not accept, and leaves the same history."""

    @pytest.mark.parametrize("is_proxied", [False, True])
    @pytest.mark.parametrize("seed", range(20))
    def test_same_as_the_full_decision(self, seed: int, is_proxied: bool) -> None:
        chance = random.Random(seed)
        carriers = [Carrier(), Carrier()]
        fast, full = (RequestHistory(request_id("h"), is_proxied=is_proxied) for _ in range(2))
        ids = [request_id(t) for t in chance.choice((["a", "b", "c", "d", "e"], [""], ["h"], ["a", "", "17", "b"]))]
        accepted = 0
        for _ in range(60):
            poll_id, carrier = chance.choice(ids), chance.choice(carriers)
            is_certain = fast.accept_certain(poll_id, carrier)
            if not is_certain and fast.decide(poll_id, is_waiting=False) is ACCEPT:
                fast.carry(carrier)
            decision = full.decide(poll_id, is_waiting=False)
            if decision is ACCEPT:
                full.carry(carrier)
            assert decision is ACCEPT or not is_certain
            accepted += is_certain
            assert state_of(fast) == state_of(full)
            for history in (fast, full):
                history.response = b"r"
                if history.needs_pings:
                    history.add_pings(1)
                    history.on_pong()
        assert accepted or is_proxied or len(ids) == 1


def state_of(history: RequestHistory) -> dict[str, object]:
    return {name: getattr(history, name) for name in RequestHistory.__slots__}
