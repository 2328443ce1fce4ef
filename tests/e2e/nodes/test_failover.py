"""A Sentinel failover under load: clients are notified of every possible loss."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.nodes.test_faults import CHANNELS, Backend, note_client
from support.history import Recorder, check
from support.processes.client import ClientProcess
from support.processes.hub import HubProcess, token
from support.processes.sentinels import SentinelGroup
from support.waiting import wait_until

KINDS = ["js-websocket", "python-polling"]


@pytest.fixture
def sentinels(tmp_path: Path) -> Iterator[SentinelGroup]:
    folder = tmp_path / "sentinels"
    folder.mkdir()
    group = SentinelGroup(folder)
    try:
        yield group
    finally:
        group.stop()


@pytest.mark.parametrize("failover", ["killed", "planned"])
def test_clients_are_notified_of_losses_after_a_failover(
    sentinels: SentinelGroup, tmp_path: Path, failover: str
) -> None:
    hub = HubProcess(tmp_path, "--broker", sentinels.url).start()
    recorder = Recorder(tmp_path / "history.jsonl")
    backend = Backend(sentinels.url, recorder)
    clients = [ClientProcess(kind, hub.url, token=token(f"u-{kind}", "orders:*"), channels=CHANNELS) for kind in KINDS]
    try:
        for client in clients:
            client.wait_ready()
        backend.start()
        wait_until(lambda: backend.acked > 40, within_s=60.0, why="the backend publishes")
        if failover == "killed":
            sentinels.kill_master()
        else:
            sentinels.start_failover()
        sentinels.wait_for_another_master()
        # After a planned failover the old master remains a master for some seconds and keeps its connections.
        wait_until(lambda: hub.metric("tidings_epochs_total") >= 1, within_s=90.0, why="the hub uses the new master")
        before = backend.acked
        wait_until(lambda: backend.acked > before + 40, within_s=60.0, why="the backend publishes again")
        wait_until(lambda: hub.get("/readyz")[0] == 200, within_s=60.0, why="the hub is ready again")
        backend.stop()
        backend.mark("end")
        for client in clients:
            client.wait(
                lambda client: all(
                    any(str(data["id"]).startswith("end-") for data in client.data(channel)) for channel in CHANNELS
                ),
                within_s=60.0,
                why="the last publications",
            )
            # The new master may lack publications that the old one acknowledged.
            lost_channels = {
                name
                for gap in client.records_of("gap")
                for name, answer in gap["channels"].items()
                if not answer["recovered"]
            }
            assert lost_channels >= set(CHANNELS)
            note_client(recorder, client.kind, client)
        assert check(recorder.path) == []
    finally:
        backend.stop()
        backend.close()
        for client in clients:
            client.stop()
        hub.stop()
        recorder.close()
