"""`tidings outbox URL`: runs the relay process, which publishes the rows that backends wrote into an outbox."""

from __future__ import annotations

import argparse
import os
import select
import signal

from tidings.contrib.outbox import Relay, status_lines
from tidings.errors import BadConfig
from tidings.publishers import open_publisher
from tidings.wire.payload import MAX_BYTES
from tidings_hub import log
from tidings_hub.commands.target import find_target
from tidings_hub.log import escape_control

URL_VARIABLE = "TIDINGS_OUTBOX_URL"


def run(arguments: argparse.Namespace) -> int:
    """Run a relay until SIGTERM or SIGINT. With `--once`: publish all rows, and return 1 if any are left.

    With `--status`: print the state of the table.
    """
    url = arguments.database or os.environ.get(URL_VARIABLE)
    if not url:
        raise BadConfig(f"no database given; use tidings outbox postgresql://host/name, or set {URL_VARIABLE}")
    if arguments.status:
        for line in status_lines(url, table=arguments.table):
            print(escape_control(line))
        return 0
    hub = find_target(argparse.Namespace(config=arguments.config, url=arguments.to))
    log.setup(arguments.log_level, select=select)
    with Relay(
        url,
        open_publisher(hub.url, prefix=hub.prefix, api_key=hub.api_key),
        table=arguments.table,
        batch=arguments.batch,
        interval_s=arguments.interval,
        keep_s=arguments.keep,
        attempts_max=arguments.attempts,
        publication_max_bytes=hub.settings.publication_max_bytes if hub.settings else MAX_BYTES,
    ) as relay:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: relay.stop())
        if arguments.create:
            relay.create()
        if arguments.once:
            return 0 if relay.once() else 1
        relay.run()
    return 0
