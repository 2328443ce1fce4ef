"""`tidings doctor`: publishes and receives one event through the hub, and prints what fails and how to fix it."""

from __future__ import annotations

import argparse
import http.client
import os
import secrets
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tidings.emitter import Emitter
from tidings.errors import Forbidden, HubError, TidingsError, Unauthorized, Unavailable
from tidings.wire.channels import user_channel
from tidings_hub.commands import token
from tidings_hub.commands.doctor_service import check_notification_service
from tidings_hub.commands.event_stream import EventStream, connect, error_text, not_from_hub, read_json_object
from tidings_hub.commands.target import Target, find_target
from tidings_hub.log import escape_control, mask_secrets

WAIT_S = 5.0
_EVENT = "doctor"


@dataclass(slots=True)
class _Checklist:
    failures: int = 0

    def passed(self, text: str) -> None:
        print(f"ok    {escape_control(mask_secrets(text))}", flush=True)

    def failed(self, text: str) -> None:
        self.failures += 1
        print(f"FAIL  {escape_control(mask_secrets(text))}", flush=True)


def run(arguments: argparse.Namespace) -> int:
    """Print one line per check. Returns 1 if any check failed."""
    checklist = _Checklist()
    target = find_target(arguments)
    checklist.passed(f"settings: publishing to {target.url}, receiving from {target.hub_url}")
    health = _get(
        target, "/healthz", checklist, "the hub answers", "is `tidings serve` running, and is that its address?"
    )
    if health is None:
        return 1
    for option in health.get("insecure") or []:
        print(f"note  insecure: {escape_control(str(option))}")
    ready = _get(
        target,
        "/readyz",
        checklist,
        "the hub is ready",
        "the node has no working connection to the broker; its log has the cause",
    )
    _check_ingress(ready or {}, checklist)
    _check_keys(ready or {}, checklist)
    _check_broker(ready or {}, checklist)
    _check_round_trip(arguments, target, checklist)
    check_notification_service(target, checklist)
    print("all checks passed" if not checklist.failures else f"failed checks: {checklist.failures}")
    return 1 if checklist.failures else 0


def _get(target: Target, path: str, checklist: _Checklist, success: str, hint: str) -> dict[str, Any] | None:
    url = f"{target.hub_url}{path}"
    connection = connect(target.hub_url, timeout_s=WAIT_S)
    try:
        connection.request("GET", urlsplit(url).path)
        response = connection.getresponse()
        body = response.read(65_536)
    except (OSError, http.client.HTTPException) as error:
        checklist.failed(f"{url}: {error_text(error)}; {hint}")
        return None
    finally:
        connection.close()
    decoded = read_json_object(body)
    if decoded is None:
        # A proxy or another server sent it: the hub responds with a JSON object at this path.
        checklist.failed(f"{url}: {not_from_hub(response)}")
        return None
    if response.status != http.client.OK:
        checklist.failed(f"{url} returned {response.status}: {body.decode('utf-8', 'replace').strip()}; {hint}")
        return None
    checklist.passed(f"{success} at {url}")
    return decoded


def _check_ingress(ready: dict[str, Any], checklist: _Checklist) -> None:
    """Check the state of each queue that the node consumes."""
    checks = ready.get("checks")
    queues = checks.get("ingress") if isinstance(checks, dict) else None
    for name, state in queues.items() if isinstance(queues, dict) else ():
        if state == "connected":
            checklist.passed(f"ingress {name}: {state}")
        else:
            checklist.failed(
                f"ingress {name}: {state}; check that the queue's server runs, and its URL. The hub's log has the cause"
            )


def _check_keys(ready: dict[str, Any], checklist: _Checklist) -> None:
    """Check the key set of each issuer."""
    checks = ready.get("checks")
    issuers = checks.get("keys") if isinstance(checks, dict) else None
    for issuer, state in issuers.items() if isinstance(issuers, dict) else ():
        if state == "fresh":
            checklist.passed(f"keys of {issuer}: {state}")
        else:
            checklist.failed(f"keys of {issuer}: {state}; check the url of its JWKS. The hub's log has the cause")


def _check_broker(ready: dict[str, Any], checklist: _Checklist) -> None:
    """Check what is wrong with the broker, a worker, or the node's address, although the node can serve."""
    checks = ready.get("checks")
    if not isinstance(checks, dict):
        return
    parts = checks.get("parts")
    for name, state in parts.items() if isinstance(parts, dict) else ():
        if state != "served":
            checklist.failed(f"{name} of the cluster is not served: {state}; its channels receive nothing")
    workers = checks.get("workers")
    for name, is_ready in workers.items() if isinstance(workers, dict) else ():
        if not is_ready:
            checklist.failed(f"worker {name} is not ready: it starts, hangs or keeps crashing; see the hub's log")
    if address_error := checks.get("advertise"):
        checklist.failed(str(address_error))
    if policy := checks.get("eviction"):
        checklist.failed(
            f"Redis has maxmemory-policy {policy}: when its memory is full, it deletes histories and revocations."
            " Set maxmemory-policy to noeviction"
        )


def _check_round_trip(arguments: argparse.Namespace, target: Target, checklist: _Checklist) -> None:
    sub = f"doctor-{secrets.token_hex(4)}"
    bearer_token = arguments.token or os.environ.get("TIDINGS_TOKEN")
    channel = arguments.channel
    if not bearer_token:
        channel = channel or user_channel(sub)
        bearer_token = token.issue_for_channels([channel], sub=sub, settings=target.settings, env=os.environ)
    if bearer_token is None:
        # With dev the hub accepts clients without a token, in every namespace except `user`.
        channel = arguments.channel or f"doctor:{sub}"
    if not channel:
        checklist.failed("there is a token, but no channel that it covers; add --channel, or remove the token")
        return
    try:
        with EventStream(target.hub_url, [channel], token=bearer_token, timeout_s=WAIT_S) as stream:
            checklist.passed(f"an event stream of {channel} is open")
            _publish_and_wait(target, channel, stream, checklist)
    except HubError as error:
        checklist.failed(f"receiving: {error}")
    except Unauthorized as error:
        hint = "does TIDINGS_SECRET here equal the hub's?" if bearer_token else token.LOGIN_ADVICE
        checklist.failed(f"subscribing to {channel} was rejected ({error.code.name}): {error}; {hint}")
    except Forbidden as error:
        hint = "pass --token and --channel that belong together"
        checklist.failed(f"subscribing to {channel} was rejected ({error.code.name}): {error}; {hint}")
    except TidingsError as error:
        checklist.failed(f"subscribing to {channel} was rejected ({error.code.name}): {error}")


def _publish_and_wait(target: Target, channel: str, stream: EventStream, checklist: _Checklist) -> None:
    marker = secrets.token_hex(8)
    started_s = time.monotonic()
    try:
        with Emitter(target.url, prefix=target.prefix, api_key=target.api_key, timeout_s=WAIT_S) as emitter:
            receipt = emitter.emit(_EVENT, {"mark": marker}, channel=channel)
    except TidingsError as error:
        checklist.failed(f"publishing through {target.url} failed ({error.code.name}): {error}")
        return
    position = "stored in a queue" if receipt.queued else f"cursor {receipt.cursor}"
    checklist.passed(f"published with id {receipt.id}: {position}")
    stream.set_silence_timeout(WAIT_S)
    try:
        for event in stream:
            if event.name == _EVENT and marker in event.data:
                checklist.passed(f"received after {(time.monotonic() - started_s) * 1000:.1f} ms")
                return
            if time.monotonic() - started_s > WAIT_S:
                break
    except Unavailable as error:
        checklist.failed(f"published, but not received: {error}")
        return
    checklist.failed(
        f"published, but not received in {WAIT_S:g} s: do hub and publisher use the same broker and prefix?"
    )
