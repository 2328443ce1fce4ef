"""The claims of a verified token."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims of a verified token.

    `channels` are patterns as `channels.matches` takes them. `info` is what presence shows of the user, set by the
    backend. Times are unix seconds.
    """

    sub: str
    expires_at_s: float | None = None
    issued_at_s: float | None = None
    jti: str | None = None
    channels: tuple[str, ...] = ()
    info: object = None
    issuer: str | None = None
