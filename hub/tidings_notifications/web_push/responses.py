"""What the response of a push service means for a delivery (RFC 8030 sections 5 and 7.3)."""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final

from tidings_notifications.core.delivery import Failed, Gone, Outcome, Retry, Sent

# A push service that asks for more is tried again after so long.
_RETRY_AFTER_MAX_S: Final = 86_400
_WORDS_MAX: Final = 200
_GONE: Final = (HTTPStatus.NOT_FOUND, HTTPStatus.GONE)
_LATER: Final = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)
# The push service does not accept our token.
UNAUTHORIZED: Final = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_SERVER_ERROR: Final = 500


def outcome_of(status: int, retry_after: str | None, body: bytes, *, unix_s: float) -> Outcome:
    """The outcome of a push with this response. `body`: its first bytes."""
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return Sent()
    if status in _GONE:
        return Gone()
    reason = f"{status} {words_of(body)}".rstrip()
    if status in _LATER or status >= _SERVER_ERROR:
        return Retry(retry_after_ms(retry_after, unix_s=unix_s), reason)
    return Failed(reason)


def retry_after_ms(text: str | None, *, unix_s: float) -> int | None:
    """The milliseconds in a header Retry-After: seconds or a date (RFC 9110 section 10.2.3). None: it has no such."""
    text = (text or "").strip()
    if text.isascii() and text.isdigit():
        seconds = float(text[:10])
    else:
        try:
            at = parsedate_to_datetime(text)
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
        seconds = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - unix_s
    return int(max(0.0, min(seconds, _RETRY_AFTER_MAX_S)) * 1000)


def words_of(body: bytes) -> str:
    """A response as one line of a log."""
    text = body.decode("utf-8", "replace")
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())[:_WORDS_MAX]
