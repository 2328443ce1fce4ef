"""What a message in a compatibility format requests, once it was parsed and checked."""

from __future__ import annotations

from dataclasses import dataclass

from tidings.wire.publication import encode_body


@dataclass(frozen=True, slots=True)
class PublishRequest:
    """A publication in each of `channels` (checked names). `data_json` is the result of `payload.encode_data`."""

    channels: tuple[str, ...]
    event: str
    data_json: bytes

    def body(self, *, id: str, at_ms: int) -> bytes:
        """The body to publish in each channel. These formats carry no id, so the caller supplies a new one."""
        return encode_body(self.event, self.data_json, id=id, at_ms=at_ms)


@dataclass(frozen=True, slots=True)
class CommandRequest:
    """A command to all nodes about a user or one connection. `action`: `disconnect`, `subscribe`, `unsubscribe`."""

    action: str
    user: str = ""
    connection: str = ""
    channel: str = ""


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Limits of one message: bytes of data as JSON, and number of channels."""

    data_max_bytes: int
    channels_max: int
