from __future__ import annotations

import select
import socket
from collections.abc import Iterator

import pytest

from tidings_hub.engine.capacity.priority_sockets import PrioritySockets

IN = select.EPOLLIN


@pytest.fixture
def sockets() -> Iterator[PrioritySockets]:
    sockets = PrioritySockets()
    yield sockets
    sockets.epoll.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"GET")
        yield ours, theirs


def test_accepted_socket_is_watched_only_if_it_still_has_priority(
    sockets: PrioritySockets, pair: tuple[socket.socket, socket.socket]
) -> None:
    first, second = (end.fileno() for end in pair)
    sockets.add_accepted(first)
    sockets.add_accepted(second)
    assert list(sockets.accepted()) == [first, second]
    assert sockets.events() == []
    sockets.remove(second)
    sockets.register_accepted(IN)
    assert list(sockets.accepted()) == []
    assert sockets.events() == [(first, IN)]
    assert sockets.fds == {first}


def test_socket_that_is_closed_while_others_are_read_is_left_out(
    sockets: PrioritySockets, pair: tuple[socket.socket, socket.socket]
) -> None:
    first, second = (end.fileno() for end in pair)
    sockets.add_accepted(first)
    sockets.add_accepted(second)
    accepted = sockets.accepted()
    assert next(accepted) == first
    sockets.forget(second)
    assert list(accepted) == []


def test_other_bits_are_watched_before_and_after_the_registration(
    sockets: PrioritySockets, pair: tuple[socket.socket, socket.socket]
) -> None:
    fd = pair[0].fileno()
    sockets.add_accepted(fd)
    sockets.watch(fd, select.EPOLLOUT)
    sockets.register_accepted(IN)
    assert sockets.events() == [(fd, select.EPOLLOUT)]
    sockets.watch(fd, IN)
    assert sockets.events() == [(fd, IN)]
    sockets.remove(fd)
    assert sockets.events() == []
    sockets.add(fd, IN)
    assert sockets.events() == [(fd, IN)]
