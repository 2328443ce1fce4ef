from __future__ import annotations

import pytest

from tidings_hub.engine.requests.wsgi_handler import Workload
from tidings_hub.web.path_dispatcher import HubPaths


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_probes_have_room_of_their_own(path: str) -> None:
    assert path in HubPaths()
    assert HubPaths().workload_of(path) is Workload.PROBES


@pytest.mark.parametrize("path", ["/api/publish", "/apps/42/events", "/apps/42/batch_events"])
def test_backends_have_room_of_their_own(path: str) -> None:
    assert path in HubPaths("42")
    assert HubPaths("42").workload_of(path) is Workload.BACKENDS


@pytest.mark.parametrize(
    ("path", "app_id"),
    [("/apps/42/events", ""), ("/apps/43/events", "42"), ("/apps/42/other", "42"), ("/apps/42/events/", "42")],
)
def test_other_apps_are_the_users(path: str, app_id: str) -> None:
    assert path not in HubPaths(app_id)
    assert HubPaths(app_id).workload_of(path) is Workload.PAGES


@pytest.mark.parametrize("path", ["/inbox", "/inbox/mark", "/inbox/preferences"])
def test_inboxes_have_room_of_their_own_and_are_the_users_without_a_service(path: str) -> None:
    with_inbox = HubPaths(has_inbox=True)
    assert path in with_inbox
    assert with_inbox.workload_of(path) is Workload.INBOX
    assert path not in HubPaths()
    assert HubPaths().workload_of(path) is Workload.PAGES
    assert f"{path}/" not in with_inbox


@pytest.mark.parametrize("path", ["/api/notifications", "/api/users/7/notifications/delete"])
def test_notifications_of_backends_have_room_of_their_own(path: str) -> None:
    assert path in HubPaths()
    assert HubPaths().workload_of(path) is Workload.NOTIFICATIONS
