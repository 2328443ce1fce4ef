"""The form of each field of a notification: what is rejected, with which error. Every message begins with the field."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from urllib.parse import urlsplit

from tidings.errors import BadChannel, BadId, BadRequest, TooLarge
from tidings.number_checks import check_seconds, shown
from tidings.wire.channels import user_channel
from tidings.wire.payload import is_lazy_text

TITLE_MAX = 200
BODY_MAX = 2_000
LINK_MAX = 2_048
USERS_MAX = 1_000
LIFE_MAX_S = 366 * 86_400
_CATEGORY = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")
_GROUP = re.compile(r"[A-Za-z0-9_.:-]{1,128}\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_CONTROL_OR_SPACE = re.compile(r"[\s\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_SHOWN_MAX = 40


def check_category(value: object) -> str:
    """`value`, if it can be the name of a category.

    Raises:
        BadRequest: not 1 to 64 small letters, digits and `_`, with a letter first.
    """
    if isinstance(value, str) and issubclass(type(value), str) and _CATEGORY.match(value):
        return str.__str__(value)
    raise _malformed("category", value, "it is 1 to 64 small letters, digits and _, with a letter first")


def check_group(value: object) -> str:
    """`value`, if it can be the name of a group.

    Raises:
        BadId: not 1 to 128 letters, digits and the signs `. _ : -`.
    """
    if isinstance(value, str) and issubclass(type(value), str) and _GROUP.match(value):
        return str.__str__(value)
    raise BadId(f"group is {_shown(value)}; it is 1 to 128 letters, digits and the signs . _ : -")


def check_link(value: object, name: str) -> str:
    r"""`value`, if it is an absolute http(s) URL, or a path on the page's own host. `name` is that of the field.

    Browsers take `\` for `/`, and read over line breaks and tabs: both could lead to another host or scheme.

    Raises:
        BadRequest: it is of another form, such as `javascript:…` or `//host`. TooLarge: it is too long.
    """
    link = _text(value, name)
    _check_length(link, name, LINK_MAX)
    if _CONTROL_OR_SPACE.search(link) or "\\" in link:
        raise _malformed(name, value, r"it has no spaces, control characters and \; percent-encode them")
    if not (_has_host(link) or (link.startswith("/") and not link.startswith("//"))):
        raise _malformed(name, value, "it is an absolute http(s):// URL, or a path that begins with one /")
    return link


def _has_host(link: str) -> bool:
    """Whether it is an http(s) URL with a host."""
    if not link.lower().startswith(("http://", "https://")):
        return False
    try:
        parts = urlsplit(link)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        # Brackets without an address in them, or a port that is no number.
        return False


def check_title(value: object) -> str:
    """`value`, if it is a title: one line, not empty.

    Raises:
        BadRequest: it is not. TooLarge: it is too long.
    """
    if value is None:
        raise BadRequest(f"title is missing; it is 1 to {TITLE_MAX} characters")
    title = _text(value, "title")
    _check_length(title, "title", TITLE_MAX)
    if not title.strip():
        raise BadRequest(f"title is empty; it is 1 to {TITLE_MAX} characters")
    if _CONTROL.search(title):
        raise _malformed("title", title, "it is one line without control characters")
    return title


def check_body(value: object) -> str | None:
    """The body; None if there is none or it is empty.

    Raises:
        BadRequest: it is not text, or has control characters. TooLarge: it is too long.
    """
    if value is None:
        return None
    body = _text(value, "body")
    _check_length(body, "body", BODY_MAX)
    if _CONTROL.search(body.replace("\n", "")):
        raise _malformed("body", body, r"it has no control characters except line feeds (\n)")
    return body or None


def check_users(user: object, users: object) -> Sequence[str]:
    """The users of a call, without repetitions.

    Raises:
        BadRequest: there are none, or both are set. BadChannel: one cannot be a user. TooLarge: more than `USERS_MAX`.
    """
    if user is not None and users is not None:
        raise BadRequest("user and users at once; give one of them")
    if users is None:
        if user is None:
            raise BadRequest("user is missing; nothing is ever sent to everyone: give user, or users")
        return [check_user(user)]
    if isinstance(users, str | bytes | Mapping) or not isinstance(users, Iterable):
        raise BadRequest(f"users is {_shown(users)}; it is a list of users")
    first_users = list(islice(users, USERS_MAX + 1))
    if len(first_users) > USERS_MAX:
        raise TooLarge(f"users has more than {USERS_MAX} entries; call notify several times")
    if not first_users:
        raise BadRequest("users is empty; nothing is ever sent to everyone")
    return list(dict.fromkeys(map(check_user, first_users)))


def check_user(value: object) -> str:
    """`value`, if it can be a user.

    Raises:
        BadChannel: it cannot be part of a channel name.
    """
    if not isinstance(value, str):
        raise BadChannel(f"user is {_shown(value)}; it is the token's `sub`, a string: str(user.id)")
    try:
        return user_channel(value).removeprefix("user:")
    except BadChannel as error:
        raise BadChannel(
            f"user is {_shown(value)}; it is the token's `sub`: text that is valid in the channel user:<sub>"
        ) from error


def check_life_ms(life_s: object) -> int:
    """The milliseconds after which a notification expires.

    Raises:
        BadRequest: not a number of seconds above 0, at most `LIFE_MAX_S`.
    """
    seconds = check_seconds(life_s, "expires_in_s", most_s=LIFE_MAX_S, error=BadRequest)
    return max(1, round(seconds * 1000))


def _text(value: object, name: str) -> str:
    if issubclass(type(value), str):
        return str.__str__(value)
    if is_lazy_text(value):
        return str(value)
    raise BadRequest(f"{name} is {_shown(value)}; it is text")


def _check_length(text: str, name: str, most: int) -> None:
    if len(text) > most:
        raise TooLarge(f"{name} of {len(text)} characters; at most {most} are allowed")


def _malformed(name: str, value: object, form: str) -> BadRequest:
    return BadRequest(f"{name} is {_shown(value)}; {form}")


def _shown(value: object) -> str:
    return f"{str.__str__(value)[:_SHOWN_MAX]!a}" if issubclass(type(value), str) else shown(value)
