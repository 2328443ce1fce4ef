from __future__ import annotations

from tidings.codes import CODES, RECONNECT_MAX, Fault
from tidings.errors import CallerError, HubError, PeerError, TidingsError, from_wire
from tidings.receipts import BatchFailed

_MODULES = {"tidings.errors", "tidings.receipts"}


def tree(root: type[TidingsError]) -> list[type[TidingsError]]:
    return [
        root,
        *(leaf for child in root.__subclasses__() if child.__module__ in _MODULES for leaf in tree(child)),
    ]


def test_numbers_are_unique_and_decide_reconnecting() -> None:
    numbers = [code.number for code in CODES.values()]
    assert len(set(numbers)) == len(numbers)
    assert all(4000 <= number <= 4999 for number in numbers)
    assert [code.name for code in CODES.values() if code.should_reconnect] == [
        code.name for code in CODES.values() if code.number <= RECONNECT_MAX
    ]


def test_permanent_errors_do_not_reconnect() -> None:
    for name in ("unauthorized", "forbidden", "revoked", "bad_origin", "unknown_namespace", "bad_packet"):
        assert not CODES[name].should_reconnect
    for name in ("unavailable", "draining", "full", "slow", "ping_timeout", "expired"):
        assert CODES[name].should_reconnect


def test_every_row_is_complete() -> None:
    for name, code in CODES.items():
        assert code.name == name
        assert code.advice.strip()
        assert 400 <= code.http_status <= 599
        assert (code.http_status >= 500) is (code.fault is Fault.OURS or name == "bad_config")


def test_every_error_has_a_code_with_its_fault() -> None:
    for error in tree(TidingsError):
        assert error.code_name in CODES
    sides = {CallerError: {Fault.CALLER, Fault.PEER}, PeerError: {Fault.PEER}, HubError: {Fault.OURS}}
    for root, faults in sides.items():
        for error in tree(root):
            assert CODES[error.code_name].fault in faults, error


def test_error_from_the_wire_is_the_same_error() -> None:
    for error in tree(TidingsError):
        # This one holds other errors, and each of those travels by itself.
        if error is BatchFailed:
            continue
        wire = error("what happened").to_wire()
        back = from_wire(**wire)
        assert back.to_wire() == wire


def test_unknown_code_becomes_an_error() -> None:
    back = from_wire("quite_new", "text")
    assert isinstance(back, TidingsError)
    assert str(back) == "text"
