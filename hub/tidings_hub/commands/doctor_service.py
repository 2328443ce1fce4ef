"""What `tidings doctor` checks of the notification service: that it answers, is ready, and accepts the nodes' key."""

from __future__ import annotations

import http.client
from typing import Final, Protocol

from tidings.errors import BadConfig
from tidings_hub.commands.event_stream import connect, error_text
from tidings_hub.commands.target import Target
from tidings_hub.config.installation import INSTALLATION_HEADER, installation_of
from tidings_hub.config.notifications import service_key

_WAIT_S: Final = 5.0
_RESPONSE_MAX_BYTES: Final = 65_536


class Checklist(Protocol):
    """Where the results go."""

    def passed(self, text: str) -> None:
        """A check has passed."""

    def failed(self, text: str) -> None:
        """A check has failed; the text names the fix."""


def check_notification_service(target: Target, checklist: Checklist) -> None:
    """Check the service of the settings. Without one there is nothing to check."""
    url = None if target.settings is None else target.settings.notifications.service_url()
    if target.settings is None or url is None:
        return
    try:
        settings = target.settings
        installation = {INSTALLATION_HEADER: installation_of(settings.broker, settings.prefix)}
        status, body = _get(url, "/readyz", installation if all(installation.values()) else {})
        if status != http.client.OK:
            checklist.failed(
                f"{url}/readyz returned {status}: {body}; the log of the notification service has the cause"
            )
            return
        checklist.passed(f"the notification service is ready at {url}/readyz")
        try:
            key = service_key(target.settings)
        except BadConfig:
            # With --dev only the hub and its child know the secret.
            return
        status, body = _get(url, "/inbox/preferences?user=doctor", {"Authorization": f"Bearer {key}"})
    except (OSError, http.client.HTTPException) as error:
        checklist.failed(
            f"notification service at {url}: {error_text(error)}; does it run? `tidings serve` starts it if"
            " [notifications] has a database and no url, or start `tidings notifications`"
        )
        return
    if status == http.client.OK:
        checklist.passed("the notification service accepts the key of the nodes")
    elif status == http.client.UNAUTHORIZED:
        checklist.failed("the notification service rejects the key of the nodes; set the same secret for both")
    else:
        checklist.failed(f"{url}/inbox/preferences returned {status}: {body}; its log has the cause")


def _get(url: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
    connection = connect(url, timeout_s=_WAIT_S)
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read(_RESPONSE_MAX_BYTES).decode("utf-8", "replace").strip()
    finally:
        connection.close()
