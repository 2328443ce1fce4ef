"""Looks up push services, and refuses addresses that are not public (DNS rebinding)."""

from __future__ import annotations

import socket

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from tidings.http_client.public_address import is_public


class NotPublicError(OSError):
    """A push service has only addresses that are not public."""


class PublicResolver(AbstractResolver):
    """The resolver of the system, without private addresses."""

    def __init__(self) -> None:
        self._system = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The public addresses of `host`.

        Raises:
            NotPublicError: it has none. OSError: the lookup failed.
        """
        addresses = await self._system.resolve(host, port, family)
        public = [address for address in addresses if is_public(address["host"])]
        if addresses and not public:
            raise NotPublicError(f"{host} has no public address")
        return public

    async def close(self) -> None:
        """Nothing is open."""
        await self._system.close()
