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
from tidings_hub.extensions.app.local_publisher import LocalPublisher
from tidings_hub.extensions.app.session import Session
from tidings_hub.services.api import NodeApi

Action = Literal["subscribe", "publish"]
Handler = Callable[..., object]
ConnectHandler = Callable[[Session], Iterable[str] | None]
DisconnectHandler = Callable[[Session], object]
SubscribeHandler = Callable[[Session, str], object]
StartHandler = Callable[[Any], object]
AuthorizeHandler = Callable[[Session, str, Action], bool]

H = TypeVar("H", bound=Handler)
C = TypeVar("C", bound=ConnectHandler)
D = TypeVar("D", bound=DisconnectHandler)
S = TypeVar("S", bound=SubscribeHandler)
A = TypeVar("A", bound=AuthorizeHandler)
B = TypeVar("B", bound=StartHandler)


class App(Emitter):
    """Handlers that `tidings serve --app module` runs, and an `Emitter` through the node that runs them.

    Every method of `Emitter` works inside a hub, with a receipt; in any other process it raises Unavailable. A
    handler refuses by raising an error of `tidings.errors`, which the client is told; whatever else it raises is
    logged, and the client is told `internal`.
    """

    def __init__(self) -> None:
        self._publisher_of_node = LocalPublisher()
        super().__init__("memory://", publisher=self._publisher_of_node)
        self.events: dict[str, Handler] = {}
        self.connect_handler: ConnectHandler | None = None
        self.disconnect_handler: DisconnectHandler | None = None
        self.subscribe_handler: SubscribeHandler | None = None
        self.authorize_handler: AuthorizeHandler | None = None
        self.start_handler: StartHandler | None = None
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
        self.connect_handler = self._only(self.connect_handler, handler, "on_connect")
        return handler

    def on_disconnect(self, handler: D) -> D:
        """Declare who is told that a connection is gone: `handler(session)`."""
        self.disconnect_handler = self._only(self.disconnect_handler, handler, "on_disconnect")
        return handler

    def on_subscribe(self, handler: S) -> S:
        """Declare who is asked before each subscription: `handler(session, channel)`; it may raise to refuse."""
        self.subscribe_handler = self._only(self.subscribe_handler, handler, "on_subscribe")
        return handler

    def authorize(self, handler: A) -> A:
        """Declare who says who may: `handler(session, channel, action)`, `action` "subscribe" or "publish".

        Asked only about what the namespace's rules and the token allow already: it restricts, and never allows more.
        """
        self.authorize_handler = self._only(self.authorize_handler, handler, "authorize")
        return handler

    def on_start(self, handler: B) -> B:
        """Declare who is called once, before the first client: `handler(sio)`, to declare more on python-socketio."""
        self.start_handler = self._only(self.start_handler, handler, "on_start")
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

    def attach(self, node: NodeApi, sio: object, *, publication_max_bytes: int) -> None:
        """From now on publish through this node. Called by the hub."""
        self._publisher_of_node.node = node
        self._sio = sio
        self._builder.max_bytes = publication_max_bytes
        if self.start_handler is not None:
            self.start_handler(sio)

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
