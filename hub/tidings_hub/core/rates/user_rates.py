"""How much each user may do on this node, over all connections."""

from __future__ import annotations

from tidings_hub.core.rates.new_channel_rate import NewChannelRate
from tidings_hub.core.rates.user_buckets import UserBuckets


class UserRates:
    """The limits per user. `published_bytes`: what users published in channels with history."""

    def __init__(self) -> None:
        self.new_channels = NewChannelRate()
        self.published_bytes = UserBuckets()
