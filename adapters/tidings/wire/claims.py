"""What a token says, once it has been checked."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Claims:
    """What a checked token says.

    `channels` are patterns as `channels.matches` takes them; `info` is whatever the backend
    put there for presence. Times are unix seconds.
    """

    sub: str
    expires_at_s: float | None = None
    issued_at_s: float | None = None
    jti: str | None = None
    channels: tuple[str, ...] = ()
    info: object = None
    issuer: str | None = None
