"""`tidings publish CHANNEL EVENT JSON`: publishes one event and prints its receipt."""

from __future__ import annotations

import argparse
import json

from tidings.emitter import Emitter
from tidings.errors import BadData
from tidings_hub.commands.target import find_target


def run(arguments: argparse.Namespace) -> int:
    """Publish the event and print the receipt as JSON."""
    try:
        data = json.loads(arguments.data)
    except ValueError as error:
        raise BadData(f"""the data is not JSON: {error}; quote it, as in '{{"id": 42}}' or '"text"'""") from error
    target = find_target(arguments)
    with Emitter(target.url, prefix=target.prefix, api_key=target.api_key) as emitter:
        receipt = emitter.emit(arguments.event, data, channel=arguments.channel, id=arguments.id)
    print(json.dumps({"id": receipt.id, "cursor": receipt.cursor, "duplicate": receipt.duplicate}))
    return 0
