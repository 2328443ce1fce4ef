"""Settings of the work that a node does at a time, and of the HTTP API."""

from __future__ import annotations

from tidings_hub.config.fields import SettingsModel, setting


class WorkSettings(SettingsModel):
    """Limits on the work that a node does at a time, and on the HTTP API."""

    handlers: int = setting(256, "Client events handled at a time, and as many CONNECTs", ge=1, le=100_000)
    handler_queue: int = setting(
        10_000,
        "Client events that wait for a handler",
        ge=1,
        le=1_000_000,
        policy="answer `unavailable`",
        metric="handlers_refused",
    )
    inbox_packets_max: int = setting(
        1000,
        "Events of one client that wait for its earlier ones",
        ge=1,
        le=1_000_000,
        policy="close with `full`: the client reconnects",
        metric="inboxes_full",
    )
    inbox_max_bytes: int = setting(
        16_777_216,
        "Memory of these events, about; a single one may be larger",
        ge=65_536,
        le=1_099_511_627_776,
        policy="close with `full`: the client reconnects",
        metric="inboxes_full",
    )
    inboxes_max_bytes: int = setting(
        268_435_456,
        "Memory of the waiting events of all clients, about",
        ge=1_048_576,
        le=1_099_511_627_776,
        policy="close the clients with the most, with `full`: they reconnect",
        metric="inboxes_shed",
    )
    wsgi_requests: int = setting(
        256, "HTTP requests that are handled at a time, by Flask or in its place", ge=1, le=100_000
    )
    wsgi_queue: int = setting(
        256,
        "HTTP requests that wait for Flask",
        ge=0,
        le=100_000,
        policy="answer 503",
        metric="wsgi_refused",
    )
    wsgi_timeout_s: float = setting(
        30.0, "Seconds for one response of Flask", ge=0.1, le=600, policy="answer 500, close", metric="wsgi_timeouts"
    )
    wsgi_response_max_bytes: int = setting(
        16_777_216,
        "Bytes of one response of Flask",
        ge=65_536,
        le=1_073_741_824,
        policy="answer 500, close",
        metric="wsgi_too_large",
    )
    api_body_max_bytes: int = setting(
        1_048_576, "Bytes of an API request", ge=1024, le=268_435_456, policy="answer 413", metric="api_too_large"
    )
    max_batch: int = setting(
        100, "Publications in one API request", ge=1, le=10_000, policy="answer 413", metric="api_too_large"
    )
    publication_max_bytes: int = setting(
        65_536,
        "Bytes of a publication's data as JSON",
        ge=256,
        le=16_777_216,
        policy="reject with `too_large`",
        metric="publications_too_large",
    )
