"""The installed npm package and a hub with a room, for the tests of all tools."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.processes.hub import CONFIG, HubProcess
from support.processes.toolchain import Workspace, workspace

ROOM = """
[namespaces.room]
subscribe = "public"
publish = "subscribers"
presence = true
"""


@pytest.fixture(scope="module")
def work() -> Iterator[Workspace]:
    with workspace() as work:
        yield work


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    process = HubProcess(tmp_path_factory.mktemp("hub"), config=CONFIG + ROOM).start()
    yield process
    process.stop()
