"""`tidings presence CHANNEL`: who is in a channel, over all nodes."""

from __future__ import annotations

import argparse

from tidings.emitter import Emitter
from tidings_hub.commands import target


def run(arguments: argparse.Namespace) -> int:
    """Prints the answer as JSON."""
    found = target.find_target(arguments)
    with Emitter(found.url, prefix=found.prefix, api_key=found.api_key) as emitter:
        answer = emitter.presence(arguments.channel, limit=arguments.limit)
    print(answer.to_json().decode())
    return 0
