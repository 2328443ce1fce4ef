"""One publication as it travels through a broker (PROTOCOL.md section 7).

An emitter writes the body once. The broker prepends the numbers in the same atomic step that stores and publishes it.
Hubs never parse the data.

    message = "t1 <seq> <prev> <epoch> " body
    body    = "<id> <at_ms> <options> <event_bytes> <event as JSON>,<data as JSON>"

`<event as JSON>,<data as JSON>` is part of a Socket.IO EVENT packet without change. `event_bytes` is the length of the
event's JSON. `options` is `-` for none, or of these letters: `r`, nodes keep a delivery report for a while; `a`,
clients acknowledge it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from tidings.errors import BadEvent, BadPacket
from tidings.wire.channels import (
    BACKEND_EVENTS,
    EVENT_MAX,
    INBOX_EVENTS,
    OWN_PREFIX,
    RESERVED_EVENTS,
    check_backend_event,
    check_event,
    check_id,
)
from tidings.wire.cursor import Cursor

VERSION = b"t1"
# Values of the field `options`: none, a report, acknowledgements (with a report).
NO_OPTIONS = "-"
REPORT = "r"
ACK = "a"
# Counters are signed 64-bit in Redis.
_NUMBER = rb"(0|[1-9][0-9]{0,18})"
_HEADER = re.compile(
    rb"t1 %b %b ([A-Za-z0-9_-]{1,32}) ([A-Za-z0-9_.:-]{1,64}) %b ([^ \x80-\xff]*) %b "
    % (_NUMBER, _NUMBER, _NUMBER, _NUMBER)
)
_CONTROL = re.compile(rb"[\x00-\x1f]")
# A message of this version has at least so many spaces after the one behind the version.
_SPACES = 7
# A character may take two escapes of six bytes. Longer names must not get into the cache of checked names.
_NAME_MAX_BYTES = EVENT_MAX * 12 + 2
_RESERVED = frozenset(name.encode() for name in RESERVED_EVENTS)
_OWN_PREFIX = OWN_PREFIX.encode()
# Of those that begin with it, what the broker may have.
_PUBLISHED = frozenset(name.encode() for name in BACKEND_EVENTS | INBOX_EVENTS)


@dataclass(slots=True)
class Publication:
    """One message in a channel, numbered.

    `fragment` is `<event as JSON>,<data as JSON>`; its first `event_bytes` bytes are the event.
    `at_ms` is the emitter's clock, in milliseconds since 1970. `others` are the node's places in the
    other buckets, as in a cursor (`~<epoch>.<seq>` each); empty where there is one bucket.
    """

    channel: str
    seq: int
    prev: int
    epoch: str
    id: str
    at_ms: int
    options: str
    event_bytes: int
    fragment: bytes
    other_places: str = ""

    @property
    def cursor(self) -> str:
        """The cursor of a client that has received this publication."""
        return f"{self.epoch}.{self.seq}{self.other_places}"

    @property
    def event(self) -> str:
        """The event's name."""
        return str(json.loads(self.fragment[: self.event_bytes]))

    @property
    def data_json(self) -> bytes:
        """The data as its emitter encoded it: compact JSON in UTF-8."""
        return self.fragment[self.event_bytes + 1 :]

    def to_wire(self) -> dict[str, object]:
        """The publication in responses about history: event, data, id, cursor and time."""
        return {
            "event": self.event,
            "data": json.loads(self.data_json),
            "id": self.id,
            "cursor": str(Cursor(self.epoch, self.seq)),
            "at_ms": self.at_ms,
        }

    def to_json(self) -> bytes:
        """`to_wire` as JSON, without decoding the data. `id` and `cursor` need no escapes."""
        return b'{"event":%b,"data":%b,"id":"%b","cursor":"%b","at_ms":%d}' % (
            self.fragment[: self.event_bytes],
            self.data_json,
            self.id.encode(),
            self.cursor.encode(),
            self.at_ms,
        )


def encode_body(event: str, data_json: bytes, *, id: str, at_ms: int, options: str = NO_OPTIONS) -> bytes:
    """The part of a message that the emitter writes.

    `data_json` must come from `payload.encode_data`: compact UTF-8 JSON without control characters.

    Raises:
        BadEvent, BadId: see `channels`.
    """
    # An event that cannot be a key of the cache is invalid, and check_event raises.
    name = _name_json(event if type(event) is str else check_event(event))
    return b"%s %d %s %d %s,%s" % (check_id(id).encode(), at_ms, options.encode(), len(name), name, data_json)


def encode_inbox_body(event: str, data_json: bytes, *, id: str, at_ms: int) -> bytes:
    """As `encode_body`, for an event of `INBOX_EVENTS`.

    Raises:
        BadEvent: another event. BadId: see `channels`.
    """
    if event not in INBOX_EVENTS:
        raise BadEvent(f"the event {event!a:.40} is none of {', '.join(sorted(INBOX_EVENTS))}")
    name = json.dumps(event).encode()
    return b"%s %d %s %d %s,%s" % (check_id(id).encode(), at_ms, NO_OPTIONS.encode(), len(name), name, data_json)


def options_for(*, report: bool = False, ack: bool = False) -> str:
    """The field `options` for a delivery report, or for acknowledgements, which include a report."""
    return f"{REPORT if report or ack else ''}{ACK if ack else ''}" or NO_OPTIONS


def history_json(position: Cursor, publications: Iterable[Publication]) -> bytes:
    """A page of history as JSON: `{"cursor", "publications"}`. Data is not decoded: a page can have megabytes of it."""
    page = b",".join(publication.to_json() for publication in publications)
    return b'{"cursor":"%b","publications":[%b]}' % (str(position).encode(), page)


def split_body(body: bytes) -> tuple[str, bytes]:
    """Event and data of a body that `encode_body` wrote; the data is JSON."""
    *_, size, fragment = body.split(b" ", 4)
    return str(json.loads(fragment[: int(size)])), fragment[int(size) + 1 :]


@lru_cache(maxsize=256)
def _name_json(event: str) -> bytes:
    return json.dumps(check_backend_event(event), ensure_ascii=False).encode()


def decode(channel: str, message: bytes, *, max_bytes: int) -> Publication:
    """The publication in a broker's message.

    Checks what a recipient relies on: version, numbers, UTF-8, and no control character that could end a frame early.
    The data is not parsed.

    Raises:
        BadPacket: not a message of this version, or larger than `max_bytes`.
    """
    if len(message) > max_bytes:
        raise BadPacket(f"a broker message of {len(message)} bytes; at most {max_bytes} are allowed")
    header = _HEADER.match(message)
    if header is None:
        raise BadPacket(_header_error(message))
    seq, prev, epoch, id_, at_ms, options, event_bytes = header.groups()
    fragment, size = message[header.end() :], int(event_bytes)
    if not (
        3 <= size < len(fragment) - 1
        and size <= _NAME_MAX_BYTES
        and fragment[:1] == b'"'
        and fragment[size - 1 : size + 1] == b'",'
    ):
        raise BadPacket("a broker message whose event or data is malformed")
    _check_name(fragment[:size])
    try:
        # Text frames must be UTF-8 (RFC 6455 section 5.6). Nearly all data is printable, which is a fast check.
        if not fragment.decode().isprintable() and _CONTROL.search(fragment):
            raise BadPacket("a broker message whose event or data is malformed")
    except UnicodeDecodeError as error:
        raise BadPacket("a broker message that is not UTF-8") from error
    return Publication(
        channel, int(seq), int(prev), epoch.decode(), id_.decode(), int(at_ms), options.decode(), size, fragment
    )


def _header_error(message: bytes) -> str:
    version, _, rest = message.partition(b" ")
    if version != VERSION or rest.count(b" ") < _SPACES:
        return "a broker message that is not tidings' version 1"
    return "a broker message with a malformed number, epoch, id or options"


@lru_cache(maxsize=1024)
def _check_name(name_json: bytes) -> None:
    """Reject an event that no emitter writes. Only names with escapes or quotes are parsed."""
    name = name_json[1:-1]
    if name in _RESERVED or (name.startswith(_OWN_PREFIX) and name not in _PUBLISHED):
        raise BadPacket("a broker message whose event is reserved")
    if b"\\" in name or b'"' in name:
        try:
            check_event(json.loads(name_json))
        except (ValueError, BadEvent) as error:
            raise BadPacket("a broker message whose event is malformed") from error
