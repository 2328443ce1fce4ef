"""`tidings presence CHANNEL`: the members of a channel on all nodes."""

from __future__ import annotations

import argparse

from tidings.emitter import Emitter
from tidings_hub.commands.target import find_target


def run(arguments: argparse.Namespace) -> int:
    """Print the members as JSON."""
    target = find_target(arguments)
    with Emitter(target.url, prefix=target.prefix, api_key=target.api_key) as emitter:
        presence = emitter.presence(arguments.channel, limit=arguments.limit)
    print(presence.to_json().decode())
    return 0
