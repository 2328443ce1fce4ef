"""`App`: declares the handlers of client events, and publishes through the node that runs it.

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

    Inside a hub every method of `Emitter` works; in any other process it raises Unavailable. A handler refuses a
    request by raising an error of `tidings.errors`, which is sent to the client. Any other exception is logged, and the
    client receives `internal`.
    """

    def __init__(self) -> None:
        self._local_publisher = LocalPublisher()
        super().__init__("memory://", publisher=self._local_publisher)
        self.events: dict[str, Handler] = {}
        self.connect_handler: ConnectHandler | None = None
        self.disconnect_handler: DisconnectHandler | None = None
        self.subscribe_handler: SubscribeHandler | None = None
        self.authorize_handler: AuthorizeHandler | None = None
        self.start_handler: StartHandler | None = None
        self._sio: Any = None

    def on(self, event: str) -> Callable[[H], H]:
        """Declare the handler of `socket.emit(event, data, ack)`: `handler(session, data)` returns the answer.

        Raises:
            BadEvent: the name is reserved (`connect`, `tidings:…`, `*`), or not a valid event name.
            BadConfig: the event has a handler already, or the handler is not a plain function of a session.
        """
        if check_event(event) == "*":
            raise BadEvent("a handler is for one event; `app.sio` has python-socketio's own catch-all")

        def declare(handler: H) -> H:
            if event in self.events:
                raise BadConfig(f"two handlers for {event}; an event has one")
            self.events[event] = _check(handler, event)
            return handler

        return declare

    def on_connect(self, handler: C) -> C:
        """Declare the handler of new connections, called after the token was checked: `handler(session)`.

        It may raise to refuse, or return channels that the connection gets beside those that its token covers.
        """
        self.connect_handler = self._only(self.connect_handler, handler, "on_connect")
        return handler

    def on_disconnect(self, handler: D) -> D:
        """Declare the handler of closed connections: `handler(session)`."""
        self.disconnect_handler = self._only(self.disconnect_handler, handler, "on_disconnect")
        return handler

    def on_subscribe(self, handler: S) -> S:
        """Declare the handler of subscriptions: `handler(session, channel)`. It may raise to refuse."""
        self.subscribe_handler = self._only(self.subscribe_handler, handler, "on_subscribe")
        return handler

    def authorize(self, handler: A) -> A:
        """Declare the authorizer: `handler(session, channel, action)`, where `action` is "subscribe" or "publish".

        It is only consulted about what the namespace's rules and the token allow. It can restrict, but not allow more.
        """
        self.authorize_handler = self._only(self.authorize_handler, handler, "authorize")
        return handler

    def on_start(self, handler: B) -> B:
        """Declare a function that runs once, before the first client. `handler(sio)` may use python-socketio's API."""
        self.start_handler = self._only(self.start_handler, handler, "on_start")
        return handler

    @property
    def sio(self) -> Any:
        """The node's `socketio.Server`, for features that `App` does not cover.

        Raises:
            Unavailable: no hub runs this app (yet).
        """
        if self._sio is None:
            raise Unavailable("no hub runs this app: `tidings serve --app` does, once the module is loaded")
        return self._sio

    def attach(self, node: NodeApi, sio: object, *, publication_max_bytes: int) -> None:
        """Publish through this node from now on. Called by the hub."""
        self._local_publisher.node = node
        self._sio = sio
        self._builder.max_bytes = publication_max_bytes
        if self.start_handler is not None:
            self.start_handler(sio)

    def __repr__(self) -> str:
        return f"App({', '.join(sorted(self.events))})"

    @staticmethod
    def _only(previous: object, handler: H, name: str) -> H:
        if previous is not None:
            raise BadConfig(f"two handlers for {name}; an app has one")
        return _check(handler, name)


def _check(handler: H, name: str) -> H:
    if inspect.iscoroutinefunction(handler):
        raise BadConfig(f"the handler of {name} is a coroutine; hubs run plain functions, in greenlets")
    if not inspect.signature(handler).parameters:
        raise BadConfig(f"the handler of {name} must take an argument")
    return handler
