"""Scripts for `hostile_hub`: invalid packets, a wrong order of packets, and invalid bytes below them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from support.network.hostile_hub import OPEN, Script, Session, event

NAMES = ["__proto__", "constructor", "toString", "hasOwnProperty"]
HUGE = 20_000_000
GOOD = {"n": "good"}
ACCEPTED = '40{"sid":"s"}'
Step = Callable[[Session], None]


def ready(epoch: str, *, recovered: bool = False) -> str:
    channels = {f"orders:{name}": {"recovered": recovered} for name in ("1", *NAMES[:3])}
    return event("tidings:ready", {"user": "u", "cursor": f"{epoch}.5", "expires_in_s": 3600, "channels": channels})


def welcome(session: Session, epoch: str = "bad", *, recovered: bool = False) -> None:
    """Connect a session, up to `tidings:ready`."""
    session.send(OPEN)
    session.receive("40")
    session.send(ACCEPTED, ready(epoch, recovered=recovered))


def behave(session: Session) -> None:
    """Send a publication in another epoch, and accept each subscription."""
    session.send(event("updated", GOOD, "orders:1", "good.10"))
    while True:
        packet = session.receive("42")
        number, _, body = packet[2:].partition("[")
        name, *values = json.loads("[" + body)
        if name == "tidings:subscribe":
            response = {
                "cursor": "good.5",
                "channels": {channel: {"recovered": False} for channel in values[0]["channels"]},
            }
            session.send(f"43{number}{json.dumps([response])}")


def once(hostile: Step) -> Script:
    """Run `hostile` in the first session only. After it, and in later sessions, behave correctly."""

    def script(session: Session, before: int) -> None:
        if before == 0:
            hostile(session)
        else:
            welcome(session, "good", recovered=True)
        behave(session)

    return script


def after_ready(*packets: str) -> Script:
    def hostile(session: Session) -> None:
        welcome(session)
        session.send(*packets)

    return once(hostile)


def raw(text: bytes) -> Script:
    """Send raw bytes, then close."""

    def hostile(session: Session) -> None:
        welcome(session)
        session.send_raw(text)
        session.close()

    return once(hostile)


def binary(*packets: bytes) -> Script:
    def hostile(session: Session) -> None:
        welcome(session)
        session.send_bytes(*packets)

    return once(hostile)


def before_ready(*packets: str) -> Script:
    """Send packets instead of those of `welcome`."""

    def hostile(session: Session) -> None:
        session.send(OPEN)
        session.receive("40")
        session.send(*packets)

    return once(hostile)


def binary_channel(session: Session) -> None:
    welcome(session)
    session.send('451-["updated",1,{"_placeholder":true,"num":0},"bad.7"]')
    session.send_bytes(b"orders:1")


# Invalid packets, and unexpected ones.
GARBAGE = ["", "\0", "9", "x", "4", "4x", "42", "42{", "42[", '42{"a":1}', "42null", "42[]", "42[null]", "42[1,2]"]
GARBAGE += ["42[{}]", "42[[]]", "43", "43[", "431", "43999[{}]", '430"x"', "43-1[]", "430[null]", "431[1,2]", "45"]
GARBAGE += ['451-["x",{"_placeholder":true,"num":0}]', '45999999999-["x"]', '450-["updated",{"_placeholder":true}]']
GARBAGE += ["46", "49", "4/admin,0", '4/admin,2["updated",{"n":1},"orders:1","bad.7"]', "40", '40{"sid":5}', "40[]"]
GARBAGE += ["1", "3", "3probe", "5", "6", "2probe", "[" * 5000, '42["updated",' + "[" * 50_000, "42" + "9" * 5000]
# Invalid handshakes.
OPENS = ["", "x", "0", "0{", "0null", "0[]", '0{"sid":1}', '0{"sid":"s","upgrades":5,"pingInterval":-1}', "4", "1"]
# Events that are not valid publications.
NO_PUBLICATIONS = ['42["updated"]', '42["updated",1]', '42["updated",1,2,3]', '42["updated",1,["orders:1"],"bad.7"]']
NO_PUBLICATIONS += ['42["updated",1,"orders:1",7]', '42["updated",1,"orders:1"]', '42["updated",1,{},"bad.7"]']
# Invalid data of `tidings:ready` and other events.
WRONG = [None, 1, "x", [], [[]], {}, {"channels": 5}, {"channels": {"orders:1": 7}}, {"channels": {"orders:1": None}}]
WRONG += [{"channels": [], "cursor": {}, "user": {}, "expires_in_s": "x"}, {"expires_in_s": -1e300}, {"cursor": 7}]
WRONG += [{"channels": {"orders:1": {"error": error}}} for error in (None, 1, "x", [], {"code": {}, "message": []})]
WRONG += [{"channels": {name: {"recovered": True} for name in NAMES}, "user": "__proto__", "cursor": "__proto__.1"}]
# Events of the hub: some exist in this version, some do not.
OWN = ["gap", "expiring", "subscribed", "unsubscribed", "join", "stats", "close2", ""]
CURSORS = ["", ".", "bad", "bad.-1", "bad.1e9", "bad.07", "__proto__.1", "bad.99999999999999999999", "x" * 1_000_000]
CURSORS += ["bad.9999999999999999999", "bad.5~bad.6", "~".join(["bad.5"] * 1000)]
MODELS: list[Any] = [
    None,
    1,
    "x",
    [],
    {"id": "__proto__"},
    {"__proto__": {"polluted": 1}, "id": {}},
    {"constructor": 1},
]

PACKETS = {
    **{f"garbage-{number}": after_ready(text) for number, text in enumerate(GARBAGE)},
    **{
        f"open-{number}": once(lambda session, packet=packet: session.send(packet))
        for number, packet in enumerate(OPENS)
    },
    **{f"no-publication-{number}": after_ready(text) for number, text in enumerate(NO_PUBLICATIONS)},
}
ORDER = {
    **{
        f"ready-{number}": before_ready(ACCEPTED, event("tidings:ready", packet)) for number, packet in enumerate(WRONG)
    },
    "ready-without": before_ready(ACCEPTED, event("tidings:ready")),
    "again": before_ready(*[ACCEPTED, ready("bad")] * 50),
    "early": before_ready(event("tidings:gap", {"channels": {"orders:1": {}}}), ACCEPTED, ready("bad")),
    "own": after_ready(*(event(f"tidings:{name}", packet) for name in OWN for packet in WRONG)),
    "acks": after_ready(*(f"43{number}[{{}}]" for number in range(-5, 2000))),
    "expiring": after_ready(*[event("tidings:expiring", {"expires_in_s": 0})] * 3000),
    "strangers": after_ready(*(event("updated", 1, name, "bad.7") for name in [*NAMES, "orders:", ""])),
}
BYTES = {
    "event": binary(b'42["updated",1,"orders:1","bad.7"]'),
    "nothing": binary(b"", b"\0" * 100, b"\xff\xfe"),
    "channel": once(binary_channel),
    "huge": binary(b"\0" * HUGE),
    "huge-text": after_ready("42" + "[" * HUGE),
}
QUIET: dict[str, dict[str, Script]] = {"packets": PACKETS, "order": ORDER, "bytes": BYTES}

BROKEN = {
    "half-a-frame": raw(b"\x81\x7e\x10\x00" + b'42["updated",1'),
    "half-a-message": raw(b'\x01\x0542["u'),
    "text-that-is-no-utf-8": raw(b"\x81\x04\xff\xfe\xff\xfe"),
    "reserved-bits": raw(b"\xf1\x0242"),
    "masked": raw(b"\x81\x82\0\0\0\x0042"),
    "too-long": raw(b"\x81\x7f" + b"\xff" * 8),
    "a-long-ping": raw(b"\x89\x7e\x01\x00" + b"x" * 256),
    "a-continuation-of-nothing": raw(b"\x80\x0242"),
    "an-unknown-opcode": raw(b"\x83\x0242"),
    "no-code-of-a-close": raw(b"\x88\x01\x03"),
    "http": raw(b"HTTP/1.1 200 OK\r\n\r\n"),
}


def closing(*packets: str) -> Script:
    """Close every session after these packets."""

    def script(session: Session, before: int) -> None:
        session.send(OPEN)
        session.receive("40")
        session.send(*packets)
        session.close()

    return script


def open_and_close(session: Session, before: int) -> None:
    session.send(OPEN)
    session.close()


def hang_up(session: Session, before: int) -> None:
    welcome(session, "bad", recovered=before > 0)
    session.close()
