"""`tidings tail CHANNEL…`: prints publications as they arrive. After a lost connection it resumes from its cursor."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence

from tidings.backoff import delay_s
from tidings.codes import Fault
from tidings.errors import TidingsError, Unauthorized
from tidings.wire.channels import check_channels
from tidings_hub.commands import token
from tidings_hub.commands.event_stream import Event, EventStream
from tidings_hub.commands.target import find_target
from tidings_hub.log import escape_control


def run(arguments: argparse.Namespace) -> int:
    """Print `channel event data` for each publication, until an interrupt or until `--count` is reached."""
    channels = check_channels(arguments.channels)
    target = find_target(arguments)
    configured_token = arguments.token or os.environ.get("TIDINGS_TOKEN")
    printer = _Printer(channels, arguments.count, arguments.since)
    attempt = 0
    while True:
        # Issue a new token for each connection: the previous one may have expired.
        bearer_token = configured_token or token.issue_for_channels(
            channels, sub="tidings-tail", settings=target.settings, env=os.environ
        )
        try:
            with EventStream(target.hub_url, channels, token=bearer_token, since=printer.cursor) as stream:
                attempt = 0
                for event in stream:
                    printer.show(event)
                    if printer.is_done:
                        return 0
            print("tidings: the hub closed the event stream; reconnecting", file=sys.stderr)
        except Unauthorized as error:
            if bearer_token:
                raise
            raise Unauthorized(token.LOGIN_ADVICE) from error
        except TidingsError as error:
            if error.code.fault is Fault.CALLER:
                raise
            print(f"tidings: {error}", file=sys.stderr)
        time.sleep(delay_s(attempt, cap_s=5.0))
        attempt += 1


class _Printer:
    def __init__(self, channels: Sequence[str], count: int | None, since: str | None) -> None:
        self._channels = frozenset(channels)
        self._left = count
        self.cursor = since

    @property
    def is_done(self) -> bool:
        return self._left is not None and self._left <= 0

    def show(self, event: Event) -> None:
        is_resuming = self.cursor is not None
        self.cursor = event.cursor or self.cursor
        data = json.loads(event.data)
        # The name of a publication that an EventSource would take for its own event (PROTOCOL.md section 6).
        name = data["event"] if event.name == "tidings:event" else event.name
        if name.startswith("tidings:"):
            self._show_results(data, is_resuming=is_resuming)
            return
        # A publication may contain control characters, and a terminal would execute them.
        text = json.dumps(data["data"], ensure_ascii=False, separators=(",", ":"))
        print(f"{data['channel']} {escape_control(name)} {escape_control(text)}", flush=True)
        if self._left is not None:
            self._left -= 1

    def _show_results(self, data: dict[str, object], *, is_resuming: bool) -> None:
        channels = data.get("channels")
        for channel, result in channels.items() if isinstance(channels, dict) else ():
            if channel not in self._channels:
                # The hub also subscribes the channel of the token's user, of which nothing is printed unless requested.
                continue
            if "error" in result:
                print(
                    f"tidings: {escape_control(channel)}: {escape_control(str(result['error'].get('message')))}",
                    file=sys.stderr,
                )
            elif is_resuming and result.get("recovered") is False:
                print(f"tidings: {escape_control(channel)}: publications may be missing here", file=sys.stderr)
