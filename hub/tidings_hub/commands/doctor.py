"""`tidings doctor`: a real publish and a real receive, and in words what is wrong."""

from __future__ import annotations

import argparse
import http.client
import json
import os
import secrets
import time
from dataclasses import dataclass
from typing import Any

from tidings.emitter import Emitter
from tidings.errors import HubError, TidingsError, Unavailable
from tidings.wire.channels import user_channel
from tidings_hub.commands import target, token
from tidings_hub.commands.event_stream import EventStream, connect
from tidings_hub.commands.target import Target
from tidings_hub.log import escape_control, mask_secrets

WAIT_S = 5.0
_EVENT = "doctor"


@dataclass(slots=True)
class _Report:
    failed: int = 0

    def good(self, text: str) -> None:
        print(f"ok    {escape_control(mask_secrets(text))}", flush=True)

    def bad(self, text: str) -> None:
        self.failed += 1
        print(f"FAIL  {escape_control(mask_secrets(text))}", flush=True)


def run(arguments: argparse.Namespace) -> int:
    """Prints one line per check; returns 1 if any failed."""
    report = _Report()
    found = target.find_target(arguments)
    report.good(f"settings: publishing to {found.url}, receiving from {found.hub_url}")
    health = _get(found, "/healthz", report, "the hub answers", "is `tidings serve` running, and is that its address?")
    if health is None:
        return 1
    for choice in health.get("insecure") or []:
        print(f"note  insecure: {escape_control(str(choice))}")
    ready = _get(found, "/readyz", report, "the hub is ready", "its link to the broker does not work; its log says why")
    _ingress(ready or {}, report)
    _round_trip(arguments, found, report)
    print("all is well" if not report.failed else f"{report.failed} of these failed")
    return 1 if report.failed else 0


def _get(found: Target, path: str, report: _Report, good: str, hint: str) -> dict[str, Any] | None:
    connection = connect(found.hub_url, timeout_s=WAIT_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read(65_536)
        parsed = json.loads(body)
    except (OSError, http.client.HTTPException, ValueError) as error:
        report.bad(f"{found.hub_url}{path}: {type(error).__name__}: {error}; {hint}")
        return None
    finally:
        connection.close()
    if answer.status != http.client.OK:
        report.bad(f"{found.hub_url}{path} answers {answer.status}: {body.decode('utf-8', 'replace').strip()}; {hint}")
        return None
    report.good(f"{good} at {found.hub_url}{path}")
    return parsed if isinstance(parsed, dict) else {}


def _ingress(ready: dict[str, Any], report: _Report) -> None:
    """What the node says of each queue that it takes publications from."""
    checks = ready.get("checks")
    queues = checks.get("ingress") if isinstance(checks, dict) else None
    for name, state in queues.items() if isinstance(queues, dict) else ():
        if state == "connected":
            report.good(f"ingress {name}: {state}")
        else:
            report.bad(
                f"ingress {name}: {state}; is the queue's server there, and the URL right? The hub's log says why"
            )


def _round_trip(arguments: argparse.Namespace, found: Target, report: _Report) -> None:
    sub = f"doctor-{secrets.token_hex(4)}"
    bearer = arguments.token or os.environ.get("TIDINGS_TOKEN")
    channel = arguments.channel
    if not bearer:
        channel = channel or user_channel(sub)
        bearer = token.issue_for_channels([channel], sub=sub, settings=found.settings, env=os.environ)
    if bearer is None:
        # Under dev the hub takes anybody, in any namespace but other users' own.
        channel = arguments.channel or f"doctor:{sub}"
    if not channel:
        report.bad("a token of yours was given, but not what it covers; add --channel, or drop the token")
        return
    try:
        with EventStream(found.hub_url, [channel], token=bearer, timeout_s=WAIT_S) as stream:
            report.good(f"an event stream of {channel} is open")
            _publish_and_wait(found, channel, stream, report)
    except HubError as error:
        report.bad(f"receiving: {error}")
    except TidingsError as error:
        report.bad(
            f"subscribing to {channel} was refused ({error.code.name}): {error}"
            " Does TIDINGS_SECRET here equal the hub's? Or pass --token and --channel."
        )


def _publish_and_wait(found: Target, channel: str, stream: EventStream, report: _Report) -> None:
    mark = secrets.token_hex(8)
    started_s = time.monotonic()
    try:
        with Emitter(found.url, prefix=found.prefix, api_key=found.api_key, timeout_s=WAIT_S) as emitter:
            receipt = emitter.emit(_EVENT, {"mark": mark}, channel=channel)
    except TidingsError as error:
        report.bad(f"publishing through {found.url} failed ({error.code.name}): {error}")
        return
    place = "a queue has it" if receipt.queued else f"cursor {receipt.cursor}"
    report.good(f"published with id {receipt.id}: {place}")
    stream.set_silence_timeout(WAIT_S)
    try:
        for event in stream:
            if event.name == _EVENT and mark in event.data:
                report.good(f"received after {(time.monotonic() - started_s) * 1000:.1f} ms")
                return
            if time.monotonic() - started_s > WAIT_S:
                break
    except Unavailable as error:
        report.bad(f"published, but not received: {error}")
        return
    report.bad(f"published, but not received in {WAIT_S:g} s: do hub and publisher use the same broker and prefix?")
