"""The Socket.IO server: python-socketio's, on the engine's connections, as strict as the JavaScript server.

The engine's pump calls `on_open`, `on_message` and `on_close`. They read packets and return at once. Handlers run in
worker greenlets: one packet of a connection at a time, in the order of receipt.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import socketio
from socketio import packet as upstream

from tidings.errors import BadConfig, BadPacket
from tidings_hub import runtime
from tidings_hub.core.frame import OutgoingFrame
from tidings_hub.log import UPSTREAM
from tidings_hub.metrics import Metrics
from tidings_hub.services.connect_queue import ConnectQueue
from tidings_hub.socketio.client import Client, Handshake, PendingConnect, Transport
from tidings_hub.socketio.engineio_adapter import EngineioAdapter
from tidings_hub.socketio.environs import Environs
from tidings_hub.socketio.manager import HubManager
from tidings_hub.socketio.packet import Packet, connect_error
from tidings_hub.socketio.packet_inbox import InboxBounds, PacketInbox
from tidings_hub.socketio.refused_work import Pool, refuse

logger = logging.getLogger("tidings.socketio")

_EVENTS = (upstream.EVENT, upstream.BINARY_EVENT)
_ACKS = (upstream.ACK, upstream.BINARY_ACK)


class HubServer(socketio.Server):  # type: ignore[misc]  # python-socketio has no types
    """`socketio.Server` over the engine's connections.

    `on_connected(client)` is called right behind a CONNECT packet, in the same greenlet: what it writes comes directly
    after that packet.
    `pools`: for CONNECT (`connect`) and for events by name, a pool of their own: their handlers may wait for user code.
    `max_attachment_bytes` limits all attachments of one packet together.
    `connects`: the clients that wait for the answer to their CONNECT. `inboxes`: how many packets may wait.
    """

    def __init__(  # noqa: PLR0913 - each is one part of the node, by name
        self,
        *,
        pool: Pool,
        spawn: Callable[..., object],
        metrics: Metrics,
        max_attachment_bytes: int,
        connects: ConnectQueue,
        inboxes: InboxBounds,
        on_connected: Callable[[Client], None] | None = None,
        pools: Mapping[str, Pool] | None = None,
        namespaces: list[str] | None = None,
    ) -> None:
        super().__init__(
            client_manager=HubManager(),
            serializer=Packet,
            async_handlers=False,
            namespaces=namespaces or ["/"],
            logger=logging.getLogger(UPSTREAM),
        )
        self._pool, self._spawn, self._metrics = pool, spawn, metrics
        self._max_attachment_bytes = max_attachment_bytes
        self._connects, self._inboxes, self._on_connected = connects, inboxes, on_connected
        # Returns whether an app takes the event; the app then also answers it.
        self.on_app_event: Callable[[Client, Packet], bool] | None = None
        # Returns whether the hub requested this acknowledgement (namespace `/` only). Called from the pump.
        self.on_ack: Callable[[Client, int], bool] | None = None
        self._pools = pools or {}
        # The hub's own namespace is one of them.
        self.environ = Environs(
            self.eio.clients, are_kept=lambda: len(self.handlers) + len(self.namespace_handlers) > 1
        )

    def _engineio_server_class(self) -> type[EngineioAdapter]:
        return EngineioAdapter

    def instrument(self, *_: object, **_options: object) -> NoReturn:
        """Raise `BadConfig`: the Admin UI patches python-socketio's own Engine.IO server."""
        raise BadConfig("sio.instrument (the Admin UI) does not work with this engine; use /metrics, /api/connections")

    def client(self, sid: str, namespace: str = "/") -> Client:
        """The client behind a Socket.IO session id.

        Raises:
            KeyError: it has disconnected.
        """
        client: Client = self.eio.clients[self.manager.eio_sid_from_sid(sid, namespace)]
        return client

    # The engine's application

    def on_open(self, connection: Transport, request: Handshake) -> None:
        """Register a new connection. It is not authenticated yet."""
        self.eio.clients[connection.sid] = connection.client = Client(connection)
        self._handle_eio_connect(connection.sid, request)

    def on_message(self, connection: Transport, data: str | bytes) -> None:
        """Read a message strictly and handle it later. A malformed message closes the connection."""
        client: Client = connection.client
        try:
            packet = client.read(data, max_attachment_bytes=self._max_attachment_bytes)
        except BadPacket as error:
            self._metrics.packets_bad += 1
            logger.debug("closing %s: %s", connection.remote, error)
            connection.close("bad_packet")
            return
        if packet is None or self._take_ack(client, packet):
            return
        if packet.packet_type == upstream.CONNECT and not self._connects.begin(connection):
            refuse(self._connects, client.connection, packet, "full")
            return
        self._enqueue(client, packet)
        if self._inboxes.total_bytes > self._inboxes.total_max_bytes:
            self._inboxes.shed(self.eio.clients.values())

    def _take_ack(self, client: Client, packet: Packet) -> bool:
        """Whether the packet was an acknowledgement for the hub. It skips the inbox: thousands may come at once."""
        if packet.packet_type not in _ACKS or self.on_ack is None or client.session is None:
            return False
        if packet.namespace not in {None, "/"} or packet.id is None:
            return False
        if self.on_ack(client, packet.id):
            # The hub requested it, so it does not count against the client's inbound rate.
            client.connection.refund()
            return True
        if self.manager.sid_from_eio_sid(client.connection.sid, "/") in self.manager.callbacks:
            # An app emitted with a callback, through python-socketio.
            return False
        self._metrics.acks_unknown += 1
        return True

    def last_frames(self, connection: Transport, code: str, message: str | None) -> Sequence[OutgoingFrame]:
        """What the client receives before its connection closes with `code`."""
        client: Client | None = connection.client
        return () if client is None else client.last_frames(code, message)

    def on_close(self, connection: Transport, reason: str) -> None:
        """Call the disconnect handlers after the handlers of all packets that were received before."""
        client: Client = connection.client
        client.partial = None
        self._connects.discard(connection)
        self._enqueue(client, reason)

    def _enqueue(self, client: Client, work: Packet | str) -> None:
        if client.inbox is not None:
            if not client.inbox.add(work):
                self._metrics.inboxes_full += 1
                client.connection.close("full")
            return
        client.inbox = PacketInbox(work, self._inboxes)
        pool = self._pool_of(work)
        if not pool.submit(self._work, client, pool):
            self._metrics.handlers_refused += 1
            if not isinstance(work, str):
                client.inbox.clear()
                refuse(self._connects, client.connection, work, "full")
                self._connects.end(client.connection, connected=False)
            # A disconnect must never be dropped: it frees the memory of the client.
            self._spawn(self._work, client, pool)

    def _pool_of(self, work: Packet | str) -> Pool:
        if not self._pools or isinstance(work, str):
            return self._pool
        if work.packet_type == upstream.CONNECT:
            return self._pools.get("connect", self._pool)
        event = str(work.data[0]) if work.packet_type in _EVENTS and work.data else ""
        return self._pools.get(event, self._pool)

    def _work(self, client: Client, pool: Pool) -> None:
        """Handle the packets in a client's inbox, in order. Runs in a worker greenlet."""
        inbox, turn_started_s = client.inbox, runtime.now_s()
        while inbox:
            turn_started_s = runtime.share_turn(turn_started_s)
            next_pool = self._pool_of(inbox.first)
            if next_pool is not pool and not client.connection.closed:
                if next_pool.submit(self._work, client, next_pool):
                    return
                self._metrics.handlers_refused += 1
                client.connection.close("full")
            work = inbox.pop()
            try:
                if isinstance(work, str):
                    self._disconnected(client, work)
                elif not client.connection.closed or work.packet_type == upstream.DISCONNECT:
                    # A client that leaves on purpose sends DISCONNECT and closes at once: the reason still counts.
                    self._dispatch(client, work)
            except (Exception, runtime.Interruption):
                self._metrics.handler_errors += 1
                logger.exception("a handler failed; its connection is closed")
                refuse(self._connects, client.connection, work, "internal")
        client.inbox = None

    def _dispatch(self, client: Client, packet: Packet) -> None:
        eio_sid, namespace = client.connection.sid, packet.namespace or "/"
        if packet.packet_type == upstream.CONNECT:
            is_connected = False
            try:
                is_connected = self._connect(client, namespace, packet.data)
            finally:
                self._connects.end(client.connection, connected=is_connected)
        elif packet.packet_type == upstream.DISCONNECT:
            self._handle_disconnect(eio_sid, namespace, self.reason.CLIENT_DISCONNECT)
        elif not self.manager.is_connected(self.manager.sid_from_eio_sid(eio_sid, namespace), namespace):
            # As in the JavaScript server: a packet for a namespace that is not connected closes the connection.
            client.connection.close("bad_packet")
        elif packet.packet_type in _EVENTS:
            if self.on_app_event is not None and namespace == "/" and self.on_app_event(client, packet):
                return
            self._handle_event(eio_sid, namespace, packet.id, packet.data)
        elif packet.packet_type in _ACKS:
            self._handle_ack(eio_sid, namespace, packet.id, packet.data)

    def _connect(self, client: Client, namespace: str, auth: object) -> bool:
        """Answer a CONNECT. Return whether the client has joined any namespace."""
        connection = client.connection
        is_readable = auth is None or isinstance(auth, dict)
        if not (is_readable and self._serves(namespace)):
            connection.send(connect_error(namespace, is_readable=is_readable))
            if not is_readable and not self.manager.has_joined(connection.sid):
                connection.close("bad_request", "")
            return bool(self.manager.has_joined(connection.sid))
        pending = client.pending = PendingConnect()
        try:
            self._call_handler(client, pending, namespace, auth)
            sid = self.manager.sid_from_eio_sid(connection.sid, namespace)
            if self.manager.is_connected(sid, namespace) and self._on_connected is not None:
                self._on_connected(client)
        finally:
            connection.uncork()
        client.pending = None
        if self.manager.has_joined(connection.sid):
            connection.trust()
            return True
        if pending.refusal:
            # A refused CONNECT closes the transport after its answer; upstream leaves it open for ever.
            connection.close(pending.refusal, "")
        return False

    def hold(self, client: Client, code: str) -> None:
        """Close a client whose CONNECT is being answered with `code`, after a pause and without an answer."""
        if client.pending is not None and not client.connection.closed:
            client.pending.refusal = ""
            self._connects.hold(client.connection, code)

    def _call_handler(self, client: Client, pending: PendingConnect, namespace: str, auth: object) -> None:
        """Upstream's connect: call the handler, then send CONNECT or CONNECT_ERROR, then what the handler sent."""
        try:
            self._handle_connect(client.connection.sid, namespace, auth)
        finally:
            held_packets = pending.release()
            sid = self.manager.sid_from_eio_sid(client.connection.sid, namespace)
            if self.manager.is_pre_connected(sid, namespace):
                # The handler raised: upstream leaves such a client half connected for ever.
                self.manager.basic_disconnect(sid, namespace)
        for packet in held_packets:
            client.connection.send(packet)

    def _serves(self, namespace: str) -> bool:
        return namespace in self.handlers or namespace in self.namespace_handlers or namespace in self.namespaces

    def _disconnected(self, client: Client, reason: str) -> None:
        if reason == self.reason.CLIENT_DISCONNECT:
            # A long-polling client sends Engine.IO's close also if its transport failed. Only Socket.IO's DISCONNECT
            # means that the client left on purpose, as in the JavaScript server.
            reason = self.reason.TRANSPORT_CLOSE
        try:
            self._handle_eio_disconnect(client.connection.sid, reason)
        finally:
            del self.eio.clients[client.connection.sid]

    # While a CONNECT is pending

    def _send_packet(self, eio_sid: str, pkt: Any) -> None:
        client = self.eio.clients.get(eio_sid)
        pending: PendingConnect | None = None if client is None else client.pending
        if pending is not None and pending.held_packets is not None and pkt.packet_type in _EVENTS:
            encoded = pkt.encode()
            pending.held_packets += encoded if isinstance(encoded, list) else [encoded]
            return
        if pending is not None and pkt.packet_type == upstream.CONNECT_ERROR and not pending.refusal:
            return
        if pending is not None and pkt.packet_type == upstream.CONNECT:
            if pending.session is not None:
                # `_connect` uncorks: CONNECT, `tidings:ready` and what was missed go out in one write.
                client.connection.cork()
            # The public id of a session outlives the connection. Upstream's id names the connection and stays private.
            pkt.data = pending.answer or pkt.data
        super()._send_packet(eio_sid, pkt)

    def _send_eio_packet(self, eio_sid: str, eio_pkt: Any) -> None:
        client = self.eio.clients.get(eio_sid)
        if client is not None and client.pending is not None and client.pending.held_packets is not None:
            client.pending.held_packets.append(eio_pkt.data)
        else:
            super()._send_eio_packet(eio_sid, eio_pkt)
