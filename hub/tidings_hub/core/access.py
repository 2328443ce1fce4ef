"""Access rules: what a client may do in a channel, which pages may connect, and which users and tokens are revoked.

All of it is decided here and nowhere else (PROTOCOL.md section 9).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Protocol

from tidings.errors import BadConfig, Forbidden, TidingsError, UnknownNamespace
from tidings.wire.channels import covers, namespace_of

USER_NAMESPACE = "user"
# Used by the broker itself: a subscriber of it would see the heartbeats of nodes.
RESERVED_NAMESPACES = frozenset({"canary", "tidings"})


class Subscribe(StrEnum):
    """Which clients may subscribe to the channels of a namespace."""

    TOKEN = "token"  # noqa: S105 - the name of a rule, not a secret
    USER = "user"
    PUBLIC = "public"


class Publish(StrEnum):
    """Whether clients may publish in the channels of a namespace."""

    BACKEND = "backend"
    SUBSCRIBERS = "subscribers"


class PresenceTo(StrEnum):
    """Whether clients may see which users are present in a channel of a namespace."""

    SUBSCRIBERS = "subscribers"
    BACKEND = "backend"


@dataclass(frozen=True, slots=True)
class Rule:
    """The rule of one namespace, which applies to each of its channels.

    `history`: publications stored per channel, 0 for none (a volatile namespace).
    `history_ttl_s`: seconds without a publication after which a channel's history is deleted.
    """

    subscribe: Subscribe = Subscribe.TOKEN
    publish: Publish = Publish.BACKEND
    history: int = 100
    history_ttl_s: int = 300
    presence: bool = False
    presence_to: PresenceTo = PresenceTo.SUBSCRIBERS


class Bearer(Protocol):
    """The bearer of a token. `tidings.tokens.Claims` fits."""

    @property
    def sub(self) -> str:
        """The user."""

    @property
    def jti(self) -> str | None:
        """The token's own id, if it has one."""

    @property
    def channels(self) -> tuple[str, ...]:
        """Patterns of the channels that the token covers."""


class Access:
    """The rules of all namespaces. `default` applies to a namespace without a rule (only under --dev)."""

    def __init__(self, rules: Mapping[str, Rule], *, default: Rule | None = None) -> None:
        self._rules = dict(rules)
        self._default = default

    def rule(self, channel: str) -> Rule:
        """The rule of a channel whose name was checked.

        Raises:
            UnknownNamespace: its namespace has no rule.
        """
        namespace = namespace_of(channel)
        rule = self._rules.get(namespace, self._default)
        if rule is None or namespace in RESERVED_NAMESPACES:
            raise UnknownNamespace(f"no namespace {namespace!r}; add [namespaces.{namespace}] to tidings.toml")
        return rule

    def check_subscribe(self, bearer: Bearer, channel: str) -> None:
        """Return if `bearer` may subscribe to `channel`.

        Rule `user`: the channel's name is the bearer's `sub`. Rule `token`: one of the token's patterns covers the
        channel. Rule `public`: every session may.

        Raises:
            Forbidden, UnknownNamespace: it may not; the message states what would allow it.
        """
        rule = self.rule(channel)
        if rule.subscribe is Subscribe.USER and channel.partition(":")[2] != bearer.sub:
            raise Forbidden(f"{channel} belongs to another user")
        if rule.subscribe is Subscribe.TOKEN and not covers(bearer.channels, channel):
            raise Forbidden(f"the token does not cover {channel}; issue one whose claim `channels` does")

    def allows(self, bearer: Bearer, channel: str) -> bool:
        """Whether `check_subscribe` raises no error."""
        try:
            self.check_subscribe(bearer, channel)
        except TidingsError:
            return False
        return True

    def check_publish(self, bearer: Bearer, channel: str) -> Rule:
        """Return the rule of `channel` if `bearer`, a client, may publish in it.

        Raises:
            Forbidden, UnknownNamespace: it may not.
        """
        rule = self.rule(channel)
        if rule.publish is not Publish.SUBSCRIBERS:
            namespace = namespace_of(channel)
            raise Forbidden(f'only backends publish in {namespace!r}; its rule publish = "subscribers" would allow it')
        self.check_subscribe(bearer, channel)
        return rule

    def check_read_history(self, bearer: Bearer, channel: str) -> None:
        """Return if `bearer` may read the history of `channel`.

        Raises:
            Forbidden, UnknownNamespace: it may not, or the namespace has no history.
        """
        self.check_subscribe(bearer, channel)
        if self.rule(channel).history == 0:
            raise Forbidden(f"the namespace {namespace_of(channel)!r} has no history")

    def check_presence_visible(self, channel: str) -> None:
        """Return if the subscribers of `channel` may see which users are present.

        Raises:
            Forbidden, UnknownNamespace: the namespace has no presence, or only backends may see it.
        """
        self.check_presence_enabled(channel)
        if self.rule(channel).presence_to is not PresenceTo.SUBSCRIBERS:
            raise Forbidden(f"only backends may see presence in {namespace_of(channel)!r} (its rule presence_to)")

    def has_presence(self, channel: str) -> bool:
        """Whether the namespace of `channel` has presence. Unlike the rest it accepts a namespace without a rule."""
        namespace = namespace_of(channel)
        rule = self._rules.get(namespace, self._default)
        return rule is not None and rule.presence and namespace not in RESERVED_NAMESPACES

    def check_presence_enabled(self, channel: str) -> None:
        """Return if the namespace of `channel` has presence.

        Raises:
            Forbidden, UnknownNamespace: it has none.
        """
        if not self.rule(channel).presence:
            namespace = namespace_of(channel)
            raise Forbidden(f"the namespace {namespace!r} has no presence; its rule presence = true would give it one")


# RFC 6454 section 7 without user, path or query; the host is a name, an IPv4 or a bracketed IPv6 address. Pages of
# Electron have the host `-` (`app://-`).
_HOST = r"(?P<host>[a-z0-9_-](?:[a-z0-9._-]*[a-z0-9_-])?|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?"
# Pages of applications have schemes of their own: capacitor://localhost, chrome-extension://<id>, tauri://localhost.
_ORIGIN = re.compile(rf"(?P<scheme>[a-z][a-z0-9+.-]*)://{_HOST}\Z")
_AUTHORITY = re.compile(rf"{_HOST}\Z")
_DEFAULT_PORT = {"http": 80, "https": 443}
# Longer texts are not cached, so that what clients send takes little memory.
_CACHED_MAX = 128


def normal_origin(text: str) -> str:
    """`text` in lower case, with the port of http and https, as `http://host:80`; empty if it is no origin."""
    return _cached_origin(text) if len(text) <= _CACHED_MAX else _normal_origin(text)


def _normal_origin(text: str) -> str:
    match = _ORIGIN.match(text.lower())
    if match is None:
        return ""
    port = match["port"] or _DEFAULT_PORT.get(match["scheme"])
    return f"{match['scheme']}://{match['host']}" + ("" if port is None else f":{int(port)}")


# Nearly all requests come from the same few pages.
_cached_origin = lru_cache(maxsize=256)(_normal_origin)


class Origins:
    """The pages that may connect: those listed, `*` for any page; those of the same origin if `allowed` is empty.

    Raises:
        BadConfig: an entry is no origin.
    """

    __slots__ = ("_allowed", "any")

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        entries = list(allowed)
        self.any = "*" in entries
        self._allowed = frozenset(normal_origin(entry) for entry in entries if entry != "*")
        if "" in self._allowed:
            invalid = next(entry for entry in entries if entry != "*" and not normal_origin(entry))
            raise BadConfig(
                f"not an origin: {invalid!r}; an origin is scheme://host[:port], such as https://shop.example. Files"
                " and sandboxed pages (null, file://) have none: serve them over HTTP"
            )

    def allows(self, origin: str | None, host: str, secure: bool) -> bool:
        """Whether a request with this Origin header may be served.

        `host` is the request's Host header, and `secure` whether the client used TLS, both after the rules for trusted
        proxies. A request without Origin is allowed: it is not a browser's cross-origin request (Fetch section 3.2).
        The origin `null` (a file, a sandboxed page) is never allowed: every site can have such a page.
        """
        if origin is None:
            return True
        normal = normal_origin(origin)
        if not normal:
            return False
        if self.any or normal in self._allowed:
            return True
        if self._allowed or not _AUTHORITY.match(host.lower()):
            return False
        return normal == normal_origin(f"{'https' if secure else 'http'}://{host}")
