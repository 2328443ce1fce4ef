"""Settings of ingress and of user code."""

from __future__ import annotations

from tidings_hub.config.fields import SettingsModel, setting
from tidings_hub.config.hooks import Hooks
from tidings_hub.config.ingress import Ingress


class IngressSettings(SettingsModel):
    """Ingress: durable queues, and compatibility formats of other emitters. Each is off unless it is named."""

    ingress: Ingress = setting(
        Ingress(),
        "Queues, each a table `[ingress.<name>]` (docs/backends.md), and formats, `[ingress.<format>]`"
        " (docs/other-emitters.md)",
    )
    ingress_lease_s: float = setting(
        3.0,
        "Seconds after which another node listens to a format over Redis, if the listening node is silent",
        ge=0.3,
        le=600,
        policy="drop what it reads later: another node may have published it",
        metric="wires_dropped",
    )
    ingress_message_max_bytes: int = setting(
        262_144,
        "Bytes of one message of these formats",
        ge=1024,
        le=67_108_864,
        policy="reject with `too_large`",
        metric="wires_refused",
    )


class UserCodeSettings(SettingsModel):
    """Your own code in the node: event handlers (docs/handlers.md), hooks, and a WSGI application on the same port."""

    app: str = setting("", "Module with a `tidings_hub.App`, as `myapp.realtime` or `myapp.realtime:app`")
    wsgi: str = setting("", "WSGI application that serves every URL that is not the hub's own, as `myapp:app`")
    app_handlers: int = setting(
        64, "Calls of one handler at a time, and packets that wait for one kind of hook", ge=1, le=100_000
    )
    hooks: Hooks = setting(Hooks(), "A backend that authorizes requests over HTTP, see below")
    app_handler_queue: int = setting(
        1000,
        "Calls of one handler that wait",
        ge=0,
        le=1_000_000,
        policy="answer `unavailable`; skip `on_disconnect`",
        metric="app_refused",
    )
    app_timeout_s: float = setting(
        5.0,
        "Seconds for one call of a handler, which is interrupted where it next waits. For `on_connect`"
        " keep it below `connect_queue_timeout_s`",
        ge=0.05,
        le=600,
        policy="answer `timeout`",
        metric="app_timeouts",
    )
    stall_warn_s: float = setting(
        1.0,
        "Seconds for which your code may block the event loop",
        ge=0.05,
        le=600,
        policy="log its stack; it cannot be interrupted",
        metric="loop_stalls",
    )
