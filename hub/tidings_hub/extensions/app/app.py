"""`App`: where handlers of client events are declared, and through which they publish.

from tidings_hub import App, Session

app = App()

@app.on("chat:send")
def send(session: Session, data: dict[str, str]) -> dict[str, str]:
receipt = app.emit("message", {"from": session.user, "text": data["text"]}, channel="chat:hall")
return {"cursor": receipt.cursor}
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeVar

from tidings.emitter import Emitter
from tidings.errors import BadConfig, BadEvent, Unavailable
from tidings.wire.channels import check_event
from tidings_hub.extensions.app.local_publisher import NodeApi, ThroughNode
from tidings_hub.extensions.app.session import Session

Action = Literal["subscribe", "publish"]
Handler = Callable[..., object]
Connecting = Callable[[Session], Iterable[str] | None]
Disconnecting = Callable[[Session], object]
Subscribing = Callable[[Session, str], object]
Starting = Callable[[Any], object]
Authorizing = Callable[[Session, str, Action], bool]

H = TypeVar("H", bound=Handler)
C = TypeVar("C", bound=Connecting)
D = TypeVar("D", bound=Disconnecting)
S = TypeVar("S", bound=Subscribing)
A = TypeVar("A", bound=Authorizing)
B = TypeVar("B", bound=Starting)


class App(Emitter):
    """Handlers that `tidings serve --app module` runs, and an `Emitter` through the node that runs them.

    Every method of `Emitter` works inside a hub, with a receipt; in any other process it raises Unavailable. A
    handler refuses by raising an error of `tidings.errors`, which the client is told; whatever else it raises is
    logged, and the client is told `internal`.
    """

    def __init__(self) -> None:
        self._through = ThroughNode()
        super().__init__("memory://", publisher=self._through)
        self.events: dict[str, Handler] = {}
        self.connecting: Connecting | None = None
        self.disconnecting: Disconnecting | None = None
        self.subscribing: Subscribing | None = None
        self.authorizing: Authorizing | None = None
        self.starting: Starting | None = None
        self._sio: Any = None

    def on(self, event: str) -> Callable[[H], H]:
        """Declare who answers `socket.emit(event, data, ack)`: `handler(session, data)`, whose result is the answer.

        Raises:
            BadEvent: the name is reserved (`connect`, `tidings:…`, `*`), or none.
            BadConfig: it is declared already, or the handler is no plain function of a session.
        """
        if check_event(event) == "*":
            raise BadEvent("a handler is for one event; `app.sio` has python-socketio's own catch-all")

        def declare(handler: H) -> H:
            if event in self.events:
                raise BadConfig(f"two handlers for {event}; an event has one")
            self.events[event] = _checked(handler, event)
            return handler

        return declare

    def on_connect(self, handler: C) -> C:
        """Declare who is asked when a token has been checked: `handler(session)`.

        It may raise to refuse, and return channels that the connection gets whatever its token covers.
        """
        self.connecting = self._only(self.connecting, handler, "on_connect")
        return handler

    def on_disconnect(self, handler: D) -> D:
        """Declare who is told that a connection is gone: `handler(session)`."""
        self.disconnecting = self._only(self.disconnecting, handler, "on_disconnect")
        return handler

    def on_subscribe(self, handler: S) -> S:
        """Declare who is asked before each subscription: `handler(session, channel)`; it may raise to refuse."""
        self.subscribing = self._only(self.subscribing, handler, "on_subscribe")
        return handler

    def authorize(self, handler: A) -> A:
        """Declare who says who may: `handler(session, channel, action)`, `action` "subscribe" or "publish".

        Asked only about what the namespace's rules and the token allow already: it restricts, and never allows more.
        """
        self.authorizing = self._only(self.authorizing, handler, "authorize")
        return handler

    def on_start(self, handler: B) -> B:
        """Declare who is called once, before the first client: `handler(sio)`, to declare more on python-socketio."""
        self.starting = self._only(self.starting, handler, "on_start")
        return handler

    @property
    def sio(self) -> Any:
        """The node's `socketio.Server`, for what `App` has no word for.

        Raises:
            Unavailable: no hub runs this app (yet).
        """
        if self._sio is None:
            raise Unavailable("no hub runs this app: `tidings serve --app` does, once the module is loaded")
        return self._sio

    def run_by(self, node: NodeApi, sio: object, *, publication_max_bytes: int) -> None:
        """From now on publish through this node. Called by the hub."""
        self._through.node = node
        self._sio = sio
        self._builder.max_bytes = publication_max_bytes
        if self.starting is not None:
            self.starting(sio)

    def __repr__(self) -> str:
        return f"App({', '.join(sorted(self.events))})"

    @staticmethod
    def _only(before: object, handler: H, name: str) -> H:
        if before is not None:
            raise BadConfig(f"two handlers for {name}; an app has one")
        return _checked(handler, name)


def _checked(handler: H, name: str) -> H:
    if inspect.iscoroutinefunction(handler):
        raise BadConfig(f"the handler of {name} is a coroutine; hubs run plain functions, in greenlets")
    if not inspect.signature(handler).parameters:
        raise BadConfig(f"the handler of {name} must take an argument")
    return handler
