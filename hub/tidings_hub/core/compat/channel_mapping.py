"""How a channel or room that another emitter names becomes one of ours. Never everyone, never nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tidings.errors import BadChannel
from tidings.wire.channels import check_channel


@dataclass(frozen=True, slots=True)
class ChannelMapping:
    """The renaming of one format.

    `prefixes`: the beginning of a name to what stands instead, such as `private-orders-` to `orders:`; the longest one
    that fits. Otherwise a name with a `:` stays as it is, and one without gets `<namespace>:` in front.
    """

    namespace: str = ""
    prefixes: Mapping[str, str] = field(default_factory=dict)

    def to_channel(self, name: object) -> str:
        """Our name of what the other emitter calls `name`.

        Raises:
            BadChannel: it is empty, no text, or cannot be a channel here.
        """
        if not isinstance(name, str) or not name:
            raise BadChannel("an empty channel or room; nothing is ever sent to everyone")
        beginning = max((each for each in self.prefixes if name.startswith(each)), key=len, default="")
        if beginning:
            return check_channel(self.prefixes[beginning] + name[len(beginning) :])
        if ":" in name:
            return check_channel(name)
        if not self.namespace:
            raise BadChannel(f"{ascii(name)[:60]} has no namespace; name channels namespace:name, or set a namespace")
        return check_channel(f"{self.namespace}:{name}")
