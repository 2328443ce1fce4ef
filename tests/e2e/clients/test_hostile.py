"""The SDK on Node with a hostile hub: it survives, pollutes no prototype and delivers only valid publications."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from support.network.hostile_hub import HostileHub, Script, Session, event
from support.network.hostile_scripts import (
    ACCEPTED,
    BROKEN,
    CURSORS,
    GOOD,
    HUGE,
    MODELS,
    NAMES,
    QUIET,
    after_ready,
    closing,
    hang_up,
    open_and_close,
    ready,
    welcome,
)
from support.processes.client import ClientProcess

TRANSPORTS = pytest.mark.parametrize("transport", ["websocket", "polling"])


@contextmanager
def run_client(
    scripts: dict[str, Script], transport: str, **extra: object
) -> Iterator[tuple[HostileHub, ClientProcess]]:
    """Run a client for each script; check at the end that the process runs and no prototype has changed."""
    hub = HostileHub(scripts)
    options = {"transports": [transport], "random": 0.05} | extra
    client = ClientProcess("hostile", hub.url, channels=[], names=list(scripts), **options)
    try:
        yield hub, client
        # socket.io-client throws an uncatchable error on an empty handshake or event. A browser logs it to the console.
        # A program on Node handles it with a listener for `uncaughtException`.
        assert [record for record in client.records_of("uncaught") if "sdk_js/src" in record["stack"]] == []
        client.send_command("prototypes")
        client.wait(lambda client: client.records_of("prototypes"), why="the client process still responds")
        assert client.records_of("prototypes") == [{"kind": "prototypes", "clean": True}]
    finally:
        client.stop()
        hub.close()


def records(client: ClientProcess, kind: str, name: str) -> list[dict[str, Any]]:
    return [record for record in client.records_of(kind) if record["name"] == name]


def data(client: ClientProcess, name: str) -> list[Any]:
    return [record["data"] for record in records(client, "publication", name)]


def wait_good(client: ClientProcess, names: list[str]) -> None:
    def missing() -> list[str]:
        return [name for name in names if GOOD not in data(client, name)]

    client.wait(lambda _: not missing(), within_s=60, why=lambda: f"a publication for {missing()}")


@TRANSPORTS
@pytest.mark.parametrize("group", QUIET)
def test_malformed_message_is_not_delivered(group: str, transport: str) -> None:
    scripts = QUIET[group]
    with run_client(scripts, transport) as (hub, client):
        wait_good(client, list(scripts))
        assert {name: data(client, name) for name in scripts if data(client, name) != [GOOD]} == {}
        assert client.records_of("elsewhere") == client.records_of("named") == []
        assert [record for record in client.records_of("items") if record["items"]] == []
        # No client was made to reconnect repeatedly.
        assert {name: count for name, count in hub.sessions.items() if count > 3} == {}
        # A message that resembles a publication is reported as an error.
        reported = {record["name"] for record in client.records_of("error") if record["code"] == "bad_packet"}
        assert {name for name in scripts if name.startswith("no-publication")} <= reported


def test_malformed_frames_close_the_connection_and_the_sdk_reconnects() -> None:
    with run_client(BROKEN, "websocket") as (_, client):
        wait_good(client, list(BROKEN))
        assert {name: data(client, name) for name in BROKEN if data(client, name) != [GOOD]} == {}


@TRANSPORTS
def test_valid_publication_is_delivered_whatever_its_name(transport: str) -> None:
    polluting = {"__proto__": {"polluted": 1}, "constructor": {"prototype": {"polluted": 1}}}
    names = [event(name, polluting, "orders:1", f"bad.{number}") for number, name in enumerate(NAMES, 7)]
    other_channels = [
        event("updated", polluting, f"orders:{name}", f"bad.{number}") for number, name in enumerate(NAMES, 20)
    ]
    wrong = [(model, op, version) for model in MODELS for op in ("created", "__proto__", 7) for version in (1, "x", {})]
    pushed = [{"class": "Order", "model": model, "op": op, "version": version} for model, op, version in wrong]
    models = [event("updated_model", data, "orders:1", f"bad.{number}") for number, data in enumerate(pushed, 100)]
    scripts = {
        "names": after_ready(*names, *other_channels),
        "models": after_ready(*models),
        "cursors": after_ready(*(event("updated", 1, "orders:1", cursor) for cursor in CURSORS)),
        "many": after_ready(*(event("updated", number, "orders:1", f"bad.{number}") for number in range(6, 5006))),
        "gaps": after_ready(*[event("tidings:gap", {"cursor": "bad.6", "channels": {"orders:1": {}}})] * 3000),
    }
    with run_client(scripts, transport) as (_, client):
        wait_good(client, list(scripts))
        assert data(client, "names") == [polluting] * 4 + [GOOD]
        assert [record["event"] for record in records(client, "named", "names")] == NAMES[:3]
        assert [record["channel"] for record in records(client, "elsewhere", "names")] == [
            f"orders:{n}" for n in NAMES[:3]
        ]
        assert data(client, "many") == [*range(6, 5006), GOOD]
        assert len(records(client, "gap", "gaps")) == 3000
        assert data(client, "cursors")[-1] == GOOD


@TRANSPORTS
def test_huge_publication_is_delivered(transport: str) -> None:
    scripts = {"huge": after_ready(event("updated", "x" * HUGE, "orders:1", "bad.7"))}
    with run_client(scripts, transport) as (_, client):
        wait_good(client, ["huge"])
        assert data(client, "huge") == [HUGE + 2, GOOD]


@TRANSPORTS
def test_backoff_grows_when_the_server_keeps_closing(transport: str) -> None:
    expired = event("tidings:close", {"code": "expired", "message": "again"})
    scripts: dict[str, Script] = {
        "after-open": open_and_close,
        "after-ready": hang_up,
        "expired": closing(ACCEPTED, expired),
        "expired-later": closing(ACCEPTED, ready("bad"), expired),
        "parse-error": closing(ACCEPTED, ready("bad"), "4x"),
    }
    # With random=0.5 each pause has half of its maximum length: 0.5, 1, 2, 4 s.
    with run_client(scripts, transport, random=0.5) as (hub, client):

        def attempts(name: str) -> int:
            return sum(record["state"] == "connecting" for record in records(client, "state", name))

        # A state is recorded before its session reaches the hub.
        client.wait(
            lambda _: all(min(attempts(name), hub.sessions[name]) >= 4 for name in scripts),
            within_s=60,
            why="four attempts",
        )
        counts = {name: hub.sessions[name] for name in scripts}
        assert all(4 <= count <= 6 for count in counts.values()), counts
        # Each attempt requests a token at most once.
        assert all(len(records(client, "token", name)) <= attempts(name) + 1 for name in scripts)
        assert all(attempts(name) <= 5 for name in scripts)


@TRANSPORTS
def test_client_that_is_refused_for_good_does_not_reconnect(transport: str) -> None:
    refusal = {"message": "no", "data": {"code": "unauthorized", "message": "no"}}
    scripts = {
        "refused": closing("44" + json.dumps(refusal)),
        "refused-without-data": closing('44{"message":7}'),
        "disconnected": closing(ACCEPTED, ready("bad"), "41"),
        "revoked": closing(ACCEPTED, event("tidings:close", {"code": "revoked", "message": "no"}), "41"),
        "close-without-a-code": closing(ACCEPTED, event("tidings:close", [["x"]]), "41"),
    }
    with run_client(scripts, transport) as (hub, client):

        def closed(name: str) -> list[str]:
            return [record["code"] for record in records(client, "state", name) if record["state"] == "closed"]

        client.wait(lambda _: all(closed(name) for name in scripts), within_s=60, why="all are closed")
        assert (closed("refused"), closed("revoked")) == (["unauthorized"], ["revoked"])
        assert all(len(closed(name)) == 1 and hub.sessions[name] == 1 for name in scripts)
        assert client.records_of("publication") == []


@TRANSPORTS
def test_malformed_responses_settle_a_publish(transport: str) -> None:
    answers = ["[]", "[null]", "[7]", '["x"]', "[[]]", '[{"error":7}]', '[{"error":{"code":[]}}]', '[{"error":[]}]']

    def respond(answer: str) -> Script:
        def script(session: Session, before: int) -> None:
            welcome(session)
            packet = session.receive("42")
            while "tidings:publish" not in packet:
                packet = session.receive("42")
            number = packet[2:].partition("[")[0]
            session.send(f"43{number}{answer}", f"43{number}{answer}", event("updated", GOOD, "orders:1", "bad.10"))
            session.receive("never")

        return script

    scripts = {f"answer-{number}": respond(answer) for number, answer in enumerate(answers)}
    with run_client(scripts, transport, publishes=True) as (_, client):
        wait_good(client, list(scripts))
        client.wait(
            lambda client: len(client.records_of("receipt")) + len(client.records_of("rejected")) == len(scripts),
            why="all publishes are settled",
        )
