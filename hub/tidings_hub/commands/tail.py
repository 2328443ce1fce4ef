"""`tidings tail CHANNEL…`: prints publications as they come, and comes back after a cut where it was."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time

from tidings.backoff import delay_s
from tidings.codes import Fault
from tidings.errors import TidingsError, Unauthorized
from tidings.wire.channels import check_channels
from tidings_hub.commands import target, token
from tidings_hub.commands.event_stream import Event, EventStream
from tidings_hub.log import escape_control


def run(arguments: argparse.Namespace) -> int:
    """Prints `channel event data` per publication until interrupted, or `--count` is reached."""
    channels = check_channels(arguments.channels)
    found = target.find_target(arguments)
    given = arguments.token or os.environ.get("TIDINGS_TOKEN")
    seen = _Seen(arguments.count, arguments.since)
    attempt = 0
    while True:
        # A fresh one each time: the last one may have ended meanwhile.
        bearer = given or token.issue_for_channels(
            channels, sub="tidings-tail", settings=found.settings, env=os.environ
        )
        try:
            with EventStream(found.hub_url, channels, token=bearer, since=seen.cursor) as stream:
                attempt = 0
                for event in stream:
                    seen.show(event)
                    if seen.enough:
                        return 0
            print("tidings: the hub ended the event stream; coming back", file=sys.stderr)
        except TidingsError as error:
            if error.code.fault is Fault.CALLER or isinstance(error, Unauthorized):
                raise
            print(f"tidings: {error}", file=sys.stderr)
        time.sleep(delay_s(attempt, cap_s=5.0))
        attempt += 1


class _Seen:
    def __init__(self, count: int | None, since: str | None) -> None:
        self._left = count
        self.cursor = since

    @property
    def enough(self) -> bool:
        return self._left is not None and self._left <= 0

    def show(self, event: Event) -> None:
        before, self.cursor = self.cursor, event.cursor or self.cursor
        data = json.loads(event.data)
        if event.name.startswith("tidings:"):
            self._tell(data, returning=before is not None)
            return
        # A terminal obeys control characters: none of a publication's may reach it.
        text = json.dumps(data["data"], ensure_ascii=False, separators=(",", ":"))
        print(f"{data['channel']} {escape_control(event.name)} {escape_control(text)}", flush=True)
        if self._left is not None:
            self._left -= 1

    def _tell(self, data: dict[str, object], *, returning: bool) -> None:
        channels = data.get("channels")
        for channel, answer in channels.items() if isinstance(channels, dict) else ():
            if "error" in answer:
                print(
                    f"tidings: {escape_control(channel)}: {escape_control(str(answer['error'].get('message')))}",
                    file=sys.stderr,
                )
            elif returning and answer.get("recovered") is False:
                print(f"tidings: {escape_control(channel)}: publications may be missing here", file=sys.stderr)
