"""What a message in another emitter's format asks for, once it was read and found good."""

from __future__ import annotations

from dataclasses import dataclass

from tidings.wire.publication import encode_body


@dataclass(frozen=True, slots=True)
class PublishRequest:
    """A publication in each of `channels` (checked). `data_json` comes from `payload.encode_data`."""

    channels: tuple[str, ...]
    event: str
    data_json: bytes

    def body(self, *, id: str, at_ms: int) -> bytes:
        """What the broker is given for each channel. These formats carry no id: whoever took the message makes one."""
        return encode_body(self.event, self.data_json, id=id, at_ms=at_ms)


@dataclass(frozen=True, slots=True)
class CommandRequest:
    """An order for all nodes, about a user or one connection: `disconnect`, `subscribe` or `unsubscribe`."""

    action: str
    user: str = ""
    connection: str = ""
    channel: str = ""


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """What one message may ask for at most: bytes of data as JSON, and channels."""

    data_max_bytes: int
    channels_max: int
