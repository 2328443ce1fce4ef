"""What one connection may send: packets by a token bucket, and bytes before its client is authenticated.

The bucket fills at `inbound_rate_per_s` up to `inbound_burst`. For the time that the event loop stood still, it fills
beyond that: what clients sent meanwhile arrives at once.

A packet takes one token, whatever carries it: a WebSocket message, a control frame, a small fragment of a message, or a
packet in a POST. `PacketRate` is a base class of `Connection`, because an object per connection would cost memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from tidings_hub import runtime

if TYPE_CHECKING:
    from tidings_hub.engine.capacity.input_budget import Strangers
    from tidings_hub.engine.limits import EngineLimits, EngineMetrics
    from tidings_hub.engine.timing_wheel import TimingWheel


class RateMount(Protocol):
    """What the rate of a connection needs of its mount."""

    limits: EngineLimits
    metrics: EngineMetrics
    strangers: Strangers
    wheel: TimingWheel


class PacketRate:
    """Counts the packets of one connection, and the bytes of a stranger. Closes it if there are too many."""

    __slots__ = ("_alive", "_bucket")

    # A slot of `Connection`.
    mount: RateMount

    def __init__(self) -> None:
        # The token bucket: remaining tokens, the time of that count, and the time up to which stalls of the event loop
        # have given tokens. None means a full bucket.
        self._bucket: tuple[float, float, float] | None = None
        # Whether the client sent anything since the last ping.
        self._alive = True

    def close(self, code: str) -> None:
        """Implemented by `Connection`."""
        raise NotImplementedError

    def count_packet(self, cost: int = 1) -> bool:
        """Count a packet from the client, or `cost` of them: take as many tokens and mark the client as alive.

        Return False if there were too few. The client sends too fast, and the connection was closed with `too_fast`.
        """
        self._alive = True
        limits, now_s = self.mount.limits, runtime.now_s()
        self.mount.metrics.packets_received += cost
        burst, granted_s = limits.inbound_burst, 0.0
        if self._bucket is None:
            left: float = burst
        else:
            tokens, counted_s, granted_s = self._bucket
            left = tokens + (now_s - counted_s) * limits.inbound_rate_per_s
            if left > burst:
                # Tokens of a stall may exceed the burst. The bucket then does not fill until they are used.
                left = max(burst, tokens)
        if left < cost:
            left += self.mount.wheel.stalls.blocked_s(now_s, after_s=granted_s) * limits.inbound_rate_per_s
            granted_s = now_s
        self._bucket = (left - cost, now_s, granted_s)
        if left >= cost:
            return True
        self.close("too_fast")
        return False

    def refund(self) -> None:
        """Put the token of the last packet back, because the server requested that packet."""
        if self._bucket is not None:
            tokens, counted_s, granted_s = self._bucket
            self._bucket = (tokens + 1, counted_s, granted_s)

    def forget_full_bucket(self, now_s: float) -> None:
        """Free the bucket if it is full again by now."""
        limits = self.mount.limits
        if self._bucket is not None and now_s - self._bucket[1] > limits.inbound_burst / limits.inbound_rate_per_s:
            self._bucket = None

    # --- before the client is authenticated ---

    def trust(self) -> None:
        """The application has authenticated the client: the bounds for strangers no longer apply. Idempotent."""
        self.mount.strangers.remove(self)

    @property
    def is_stranger(self) -> bool:
        """Whether the client is not authenticated yet."""
        return self in self.mount.strangers.members

    def shed_input(self) -> None:
        """Close: the node holds too much input of clients that are not authenticated."""
        self.close("full")

    def count_input(self, size: int) -> bool:
        """Count bytes of a client that is not authenticated. Return False if they were too many: it was closed."""
        strangers = self.mount.strangers
        return self not in strangers.members or strangers.count(self, size)
