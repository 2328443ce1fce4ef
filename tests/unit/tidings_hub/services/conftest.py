from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from support.limits import broker_limits
from support.recording_hub import NAMESPACES, SECRET, Clock, fan_out, run_in_thread
from tidings_hub.brokers.memory import MemoryBroker
from tidings_hub.config.settings import Settings
from tidings_hub.metrics import Metrics
from tidings_hub.services.commands import Commands
from tidings_hub.services.hub import Hub


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def hub(clock: Clock) -> Iterator[Hub]:
    settings = Settings.model_validate(
        {"secret": SECRET, "namespaces": NAMESPACES, "out_buffer_bytes": 65_536, "hold_max": 5, "expiry_warning_s": 30}
        # Each hub has its own broker, which emitters of the same process can reach.
        | {"broker": f"memory://{secrets.token_hex(4)}"}
    )
    broker = MemoryBroker(settings.broker, limits=broker_limits())
    hub = Hub(settings, broker, settings.access(), settings.key_set(), fan_out=fan_out, metrics=Metrics(), wall_s=clock)
    hub.on_command = Commands(hub, run_in_thread).on_command
    broker.write_rules(settings.broker_rules())
    broker.start(hub)
    yield hub
    broker.stop()
