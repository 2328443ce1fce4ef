"""Maps a channel or room name of another emitter to a tidings channel. No name maps to all clients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tidings.errors import BadChannel
from tidings.wire.channels import check_channel


@dataclass(frozen=True, slots=True)
class ChannelMapping:
    """The channel mapping of one compatibility format.

    `prefixes` maps the start of a name to its replacement, such as `private-orders-` to `orders:`. The longest matching
    prefix wins. Without a match, a name with a `:` stays as it is, and any other name is prefixed with `<namespace>:`.
    """

    namespace: str = ""
    prefixes: Mapping[str, str] = field(default_factory=dict)

    def to_channel(self, name: object) -> str:
        """The channel for the other emitter's `name`.

        Raises:
            BadChannel: it is empty, not a string, or not a valid channel name.
        """
        if not isinstance(name, str) or not name:
            raise BadChannel("an empty channel or room name; tidings never publishes to everyone")
        prefix = max((prefix for prefix in self.prefixes if name.startswith(prefix)), key=len, default="")
        if prefix:
            return check_channel(self.prefixes[prefix] + name[len(prefix) :])
        if ":" in name:
            return check_channel(name)
        if not self.namespace:
            raise BadChannel(f"{ascii(name)[:60]} has no namespace; name channels namespace:name, or set a namespace")
        return check_channel(f"{self.namespace}:{name}")
