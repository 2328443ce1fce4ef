"""The Socket.IO server: python-socketio's, on our engine, as strict as the JavaScript one.

The engine's pump calls `opened`, `received` and `closed`; they read packets and return at
once. What a packet causes runs in a worker greenlet, one packet of a connection at a
time and in their order.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import socketio
from socketio import packet as upstream

from tidings.errors import BadPacket
from tidings_hub.metrics import Metrics
from tidings_hub.socketio.client import Client, Transport
from tidings_hub.socketio.engineio_adapter import EngineioAdapter
from tidings_hub.socketio.environs import Environs
from tidings_hub.socketio.manager import HubManager
from tidings_hub.socketio.packet import Packet

logger = logging.getLogger("tidings.socketio")

_EVENTS = (upstream.EVENT, upstream.BINARY_EVENT)
_ACKS = (upstream.ACK, upstream.BINARY_ACK)
# Packets of one connection that wait while one is handled. A client that pipelines more
# than this does not wait for any answer; it is closed as `too_fast`.
INBOX_MAX = 1000


class Pool(Protocol):
    """A bounded set of worker greenlets."""

    def submit(self, fn: Callable[..., object], *args: object) -> bool:
        """Run `fn` soon; False if too many wait already."""


class Opening(Protocol):
    """The first request of a connection."""

    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    remote: str


class HubServer(socketio.Server):  # type: ignore[misc]  # python-socketio has no types
    """`socketio.Server` over connections of ours.

    `accepted(client, sid, namespace)` is called right after a CONNECT was answered, in the same
    greenlet: what it writes comes directly behind the answer.
    `own(client, packet)`: whether an event was taken by an application, which answers it.
    `lanes`: pools of their own, for `connect` and for events that may wait for a user's code.
    `max_attachment_bytes` bounds all attachments of one packet together.
    """

    def __init__(
        self,
        *,
        pool: Pool,
        spawn: Callable[..., object],
        metrics: Metrics,
        max_attachment_bytes: int,
        on_connected: Callable[[Client, str, str], None] | None = None,
        app_events: Callable[[Client, Packet], bool] | None = None,
        pools: Mapping[str, Pool] | None = None,
        namespaces: list[str] | None = None,
    ) -> None:
        super().__init__(
            client_manager=HubManager(),
            serializer=Packet,
            async_handlers=False,
            namespaces=namespaces or ["/"],
            logger=logging.getLogger("tidings.socketio.upstream"),
        )
        self._pool = pool
        self._spawn = spawn
        self._metrics = metrics
        self._max_attachment_bytes = max_attachment_bytes
        self._on_connected = on_connected
        self._app_events = app_events
        # Whether an acknowledgement in the namespace `/` was asked for by the hub. It is called from the pump.
        self.on_ack: Callable[[Client, int], bool] | None = None
        self._pools = pools or {}
        self.environ = Environs(self.eio.clients)

    def _engineio_server_class(self) -> type[EngineioAdapter]:
        return EngineioAdapter

    def client(self, sid: str, namespace: str = "/") -> Client:
        """The client behind a Socket.IO session id.

        Raises:
            KeyError: it has gone.
        """
        found: Client = self.eio.clients[self.manager.eio_sid_from_sid(sid, namespace)]
        return found

    # The engine's application

    def opened(self, connection: Transport, opening: Opening) -> None:
        """A new connection; nobody is authenticated yet."""
        self.eio.clients[connection.sid] = connection.client = Client(connection)
        self._handle_eio_connect(connection.sid, None)

    def received(self, connection: Transport, data: str | bytes) -> None:
        """A message: read strictly, handled later; a broken one closes the connection."""
        client: Client = connection.client
        try:
            packet = self._read(client, data)
        except BadPacket as error:
            self._metrics.packets_bad += 1
            logger.debug("closing %s: %s", connection.remote, error)
            connection.close("bad_packet")
            return
        if packet is not None and not self._take_ack(client, packet):
            self._enqueue(client, packet)

    def _take_ack(self, client: Client, packet: Packet) -> bool:
        """Whether the packet was a client's acknowledgement: thousands may come at once, and none has to wait."""
        if packet.packet_type not in _ACKS or self.on_ack is None or client.session is None:
            return False
        if packet.namespace not in {None, "/"} or packet.id is None:
            return False
        if self.on_ack(client, packet.id):
            # It was asked for: it does not count as something that the client says by itself.
            client.connection.excuse()
            return True
        if self.manager.sid_from_eio_sid(client.connection.sid, "/") in self.manager.callbacks:
            # An app has emitted with a callback, through python-socketio.
            return False
        self._metrics.acks_unknown += 1
        return True

    def closed(self, connection: Transport, reason: str) -> None:
        """The connection is gone; handlers learn it after those of the packets before."""
        client: Client = connection.client
        client.partial = None
        self._enqueue(client, reason)

    def _read(self, client: Client, data: str | bytes) -> Packet | None:
        """The packet that is complete now, or None while attachments are missing."""
        partial = client.partial
        if partial is None:
            packet = Packet(encoded_packet=data) if data else None
            if packet is None:
                raise BadPacket("an empty packet")
            if packet.attachment_count == 0:
                return packet
            client.partial, client.partial_bytes = packet, 0
            return None
        if isinstance(data, str):
            raise BadPacket("text where an attachment was announced")
        client.partial_bytes += len(data)
        if client.partial_bytes > self._max_attachment_bytes:
            raise BadPacket(f"attachments of more than {self._max_attachment_bytes} bytes")
        if not partial.add_attachment(data):
            return None
        client.partial = None
        return partial

    # One packet at a time

    def _enqueue(self, client: Client, work: Packet | str) -> None:
        if client.inbox is not None:
            if len(client.inbox) >= INBOX_MAX and not isinstance(work, str):
                self._metrics.rate_limited += 1
                client.connection.close("too_fast")
            else:
                client.inbox.append(work)
            return
        client.inbox = deque((work,))
        pool = self._pool_of(work)
        if not pool.submit(self._work, client, pool):
            self._metrics.handlers_refused += 1
            if not isinstance(work, str):
                client.inbox.clear()
                client.connection.close("full")
            # Closing must never be refused: it is what frees memory.
            self._spawn(self._work, client, pool)

    def _pool_of(self, work: Packet | str) -> Pool:
        if not self._pools or isinstance(work, str):
            return self._pool
        if work.packet_type == upstream.CONNECT:
            return self._pools.get("connect", self._pool)
        event = str(work.data[0]) if work.packet_type in _EVENTS and work.data else ""
        return self._pools.get(event, self._pool)

    def _work(self, client: Client, pool: Pool) -> None:
        """Handle what waits in a client's inbox, in order. Runs in a worker greenlet."""
        inbox = client.inbox
        while inbox:
            wanted = self._pool_of(inbox[0])
            if wanted is not pool and not client.connection.closed:
                if wanted.submit(self._work, client, wanted):
                    return
                self._metrics.handlers_refused += 1
                client.connection.close("full")
            work = inbox.popleft()
            try:
                if isinstance(work, str):
                    self._gone(client, work)
                elif not client.connection.closed or work.packet_type == upstream.DISCONNECT:
                    # A client says DISCONNECT and closes at once: that it left on purpose still counts.
                    self._dispatch(client, work)
            except Exception:
                self._metrics.handler_errors += 1
                logger.exception("a handler failed; its connection is closed")
                client.connection.close("internal")
        client.inbox = None

    def _dispatch(self, client: Client, packet: Packet) -> None:
        eio_sid, namespace = client.connection.sid, packet.namespace or "/"
        if packet.packet_type == upstream.CONNECT:
            self._connect(client, namespace, packet.data)
        elif packet.packet_type == upstream.DISCONNECT:
            self._handle_disconnect(eio_sid, namespace, self.reason.CLIENT_DISCONNECT)
        elif not self.manager.is_connected(self.manager.sid_from_eio_sid(eio_sid, namespace), namespace):
            # As in the JavaScript server: whoever speaks in a namespace that it has not joined is cut off.
            client.connection.close("bad_packet")
        elif packet.packet_type in _EVENTS:
            if self._app_events is not None and namespace == "/" and self._app_events(client, packet):
                return
            self._handle_event(eio_sid, namespace, packet.id, packet.data)
        elif packet.packet_type in _ACKS:
            self._handle_ack(eio_sid, namespace, packet.id, packet.data)

    def _connect(self, client: Client, namespace: str, auth: object) -> None:
        connection = client.connection
        if not self._serves(namespace):
            answer = Packet(upstream.CONNECT_ERROR, data={"message": "Invalid namespace"}, namespace=namespace)
            connection.send(answer.encode())
            return
        try:
            self._ask_handler(client, namespace, auth)
            sid = self.manager.sid_from_eio_sid(connection.sid, namespace)
            if self.manager.is_connected(sid, namespace):
                connection.establish()
                if self._on_connected is not None:
                    self._on_connected(client, sid, namespace)
        finally:
            connection.uncork()
        if not any(self.manager.sid_from_eio_sid(connection.sid, each) for each in self.manager.get_namespaces()):
            # A refused CONNECT closes the transport after its answer; upstream leaves it open for ever.
            connection.close("unauthorized")

    def _ask_handler(self, client: Client, namespace: str, auth: object) -> None:
        """Upstream's connect, with what the handler sends kept until its CONNECT answer is out."""
        client.held = []
        try:
            self._handle_connect(client.connection.sid, namespace, auth)
        finally:
            held, client.held = client.held, None
            sid = self.manager.sid_from_eio_sid(client.connection.sid, namespace)
            if self.manager.is_pre_connected(sid, namespace):
                # The handler raised: upstream leaves such a client half connected for ever.
                self.manager.basic_disconnect(sid, namespace)
        for packet in held:
            client.connection.send(packet)

    def _serves(self, namespace: str) -> bool:
        return namespace in self.handlers or namespace in self.namespace_handlers or namespace in self.namespaces

    def _gone(self, client: Client, reason: str) -> None:
        if reason == self.reason.CLIENT_DISCONNECT:
            # A long-polling client says Engine.IO's close also where its transport failed. That it left for good only
            # Socket.IO's DISCONNECT says, as in the JavaScript server.
            reason = self.reason.TRANSPORT_CLOSE
        try:
            self._handle_eio_disconnect(client.connection.sid, reason)
        finally:
            del self.eio.clients[client.connection.sid]

    # What a connect handler sends must not overtake its CONNECT answer

    def _send_packet(self, eio_sid: str, pkt: Any) -> None:
        client = self.eio.clients.get(eio_sid)
        if client is not None and client.answer is not None and pkt.packet_type == upstream.CONNECT:
            # A session's public id outlives the connection; upstream's own names the connection, and nobody sees it.
            pkt.data, client.answer = client.answer, None
        if client is not None and client.held is not None and pkt.packet_type in _EVENTS:
            encoded = pkt.encode()
            client.held += encoded if isinstance(encoded, list) else [encoded]
        else:
            super()._send_packet(eio_sid, pkt)

    def _send_eio_packet(self, eio_sid: str, eio_pkt: Any) -> None:
        client = self.eio.clients.get(eio_sid)
        if client is not None and client.held is not None:
            client.held.append(eio_pkt.data)
        else:
            super()._send_eio_packet(eio_sid, eio_pkt)
