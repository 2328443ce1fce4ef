"""Settings of ingress: `[ingress.<format>]` for a compatibility format, `[ingress.<name>]` for a queue."""

from __future__ import annotations

import re
from typing import Self

from pydantic import ConfigDict, Field, SecretStr, field_validator, model_validator

from tidings.errors import BadConfig
from tidings.publishers.queue.address import QueueAddress
from tidings_hub.config.fields import SettingsModel, check_secret, setting
from tidings_hub.core.compat.channel_mapping import ChannelMapping
from tidings_hub.core.compat.pusher import PusherCredentials
from tidings_hub.core.compat.socketio_emitter import EmitterChannels

SECRET_MIN_BYTES = 16
_APP_ID = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_KEY = re.compile(r"[A-Za-z0-9_.:-]{1,64}\Z")
_NSP = re.compile(r"/[A-Za-z0-9_.:/-]{0,64}\Z")
_NAMESPACE = re.compile(r"[A-Za-z0-9_-]{0,64}\Z")


class ChannelMappingSettings(SettingsModel):
    """How the format's channels or rooms are called here."""

    namespace: str = setting(
        "", "Namespace for names that have none: `lobby` becomes `<namespace>:lobby`; empty: reject them"
    )
    prefixes: dict[str, str] = setting(
        {}, 'Replacement for the start of a name, such as `{ "private-orders-" = "orders:" }`; the longest match wins'
    )

    @field_validator("namespace")
    @classmethod
    def _namespace(cls, value: str) -> str:
        if not _NAMESPACE.match(value):
            raise ValueError("a namespace is letters, digits, _ and -")
        return value

    @field_validator("prefixes")
    @classmethod
    def _prefixes(cls, value: dict[str, str]) -> dict[str, str]:
        if "" in value:
            raise ValueError("an empty prefix matches every name; set namespace instead")
        return value

    def channel_mapping(self) -> ChannelMapping:
        """Return the mapping of the format's channel names to channels of the hub."""
        return ChannelMapping(self.namespace, self.prefixes)


class PusherApp(ChannelMappingSettings):
    """Pusher's HTTP publish API, `[ingress.pusher]`: the configuration of a backend's Pusher library."""

    namespace: str = setting("pusher", "Namespace for channels that have none: `lobby` becomes `pusher:lobby`")
    app_id: str = setting("", "The app's id; some libraries want digits only")
    key: str = setting("", "The app's key")
    secret: SecretStr = Field(
        default=SecretStr(""),
        description=f"The app's secret, at least {SECRET_MIN_BYTES} bytes, that requests are signed with",
    )

    @model_validator(mode="after")
    def _check_credentials(self) -> Self:
        if not _APP_ID.match(self.app_id) or not self.key:
            raise ValueError("needs app_id (letters, digits, _ and -), key and secret")
        check_secret(self.secret, min_bytes=SECRET_MIN_BYTES)
        return self

    def credentials(self) -> PusherCredentials:
        """The credentials as an object of `core`."""
        return PusherCredentials(self.app_id, self.key, self.secret.get_secret_value())


class PubSubSource(ChannelMappingSettings):
    """Settings that all formats over Redis pub/sub have."""

    url: str = setting(
        "",
        "The Redis that backends publish to: redis://, rediss://, unix:// or redis+sentinel://; default: the broker's",
        shown=False,
    )
    orders: bool = setting(
        default=True,
        about="Whether this format may also disconnect users and change their subscriptions",
    )


class SocketioEmitter(PubSubSource):
    """Socket.IO's Redis emitters, `[ingress.socketio_emitter]`; needs `tidings[socketio]`."""

    key: str = setting("socket.io", "The `key` of the emitters' configuration")
    nsp: str = setting("/", "The Socket.IO namespace to receive")

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        if not _KEY.match(self.key) or not _NSP.match(self.nsp):
            raise ValueError("key is letters, digits and the signs _ . : - and nsp a / and the same signs")
        return self

    def channels(self) -> EmitterChannels:
        """The pub/sub channels as an object of `core`."""
        return EmitterChannels(self.key, self.nsp)


class FlaskSocketio(PubSubSource):
    """The write-only managers of python-socketio and Flask-SocketIO's `message_queue`, `[ingress.flask_socketio]`."""

    channels: tuple[str, ...] = setting(
        ("socketio", "flask-socketio"),
        "The pub/sub channels of python-socketio and Flask-SocketIO",
    )

    @field_validator("channels")
    @classmethod
    def _check_channels(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or not all(_KEY.match(name) for name in value):
            raise ValueError("at least one channel, of letters, digits and the signs _ . : -")
        return value


class QueueSource(SettingsModel):
    """A durable queue that nodes consume, `[ingress.<name>]` in tidings.toml; needs `tidings[kombu]`."""

    url: str = setting(
        "",
        "URL of the queue, as for an Emitter: amqp://user:password@host:5672/vhost, amqps://,"
        " kombu+redis:// and other transports of kombu as kombu+<transport>://",
        shown=False,
    )
    queue: str = setting("", "Name of the queue; default: the URL's `?queue=`, or `tidings`")
    dead_queue: str = setting("", "Name of the dead-letter queue; default: the queue's name and `.dead`")
    declare: bool = setting(
        default=True, about="Declare both queues if they are missing; otherwise they must exist, with any properties"
    )
    ordered: bool = setting(
        default=True,
        about="One node at a time consumes, and another takes over when it stops, so that publications keep the"
        " queue's order (RabbitMQ). False: all nodes consume, without an order between them",
    )
    quorum: bool = setting(default=False, about="Declare them as quorum queues, which RabbitMQ replicates")
    queue_max: int = setting(
        1_000_000,
        "Messages that a queue of RabbitMQ holds; 0: no limit",
        ge=0,
        le=1_000_000_000,
        policy="reject: the emitter raises `unavailable`",
    )
    dead_max: int = setting(
        100_000,
        "Messages that a dead-letter queue of RabbitMQ, or a dead-letter list of Redis, holds",
        ge=1,
        le=1_000_000_000,
        policy="drop the oldest",
        metric="ingress_dead",
    )
    prefetch: int = setting(
        100,
        "Messages that a node has received and not acknowledged",
        ge=1,
        le=10_000,
        policy="receive no more until the broker has stored these",
        metric="ingress_held",
    )
    dead_waiting_max_bytes: int = setting(
        16_777_216,
        "Bytes of rejected messages that a node keeps until the dead-letter queue has them; one more message may"
        " arrive, which is at most as large as RabbitMQ's max_message_size",
        ge=65_536,
        le=1_073_741_824,
        policy="receive no more until the dead-letter queue has stored these",
        metric="ingress_dead_waiting",
    )
    idempotency_s: int = setting(
        3600, "Seconds for which the broker remembers the id of a publication from this queue", ge=60, le=604_800
    )
    heartbeat_s: float = setting(
        20.0, "Seconds between AMQP heartbeats; a peer that misses two counts as dead", ge=2, le=600
    )
    redelivery_s: float = setting(
        60.0,
        "Seconds after which an unacknowledged message is delivered again, for transports with a timeout"
        " (Redis; RabbitMQ notices at once)",
        ge=10,
        le=3600,
    )

    @model_validator(mode="after")
    def _check_addresses(self) -> Self:
        if not self.url:
            raise ValueError("an ingress needs a url, such as amqp://user:password@host:5672/vhost")
        try:
            address = self.address()
            QueueAddress.check_name(self.dead_letter_queue_name(address.queue))
        except BadConfig as error:
            raise ValueError(str(error)) from error
        if self.dead_letter_queue_name(address.queue) == address.queue:
            raise ValueError("queue and dead_queue are the same")
        return self

    def address(self) -> QueueAddress:
        """The address of the queue.

        Raises:
            BadConfig: the URL is not valid.
        """
        return QueueAddress.parse(self.url, queue=self.queue or None)

    def dead_letter_queue_name(self, queue: str) -> str:
        """The name of the dead-letter queue."""
        return self.dead_queue or f"{queue}.dead"


class Ingress(SettingsModel):
    """All ingress tables. Each is off unless it is named. A name that is not a format is the name of a queue."""

    model_config = ConfigDict(extra="allow")
    # `init=False` as in pydantic's documentation: for type checkers it is not an argument of __init__.
    __pydantic_extra__: dict[str, QueueSource] = Field(init=False)

    pusher: PusherApp | None = setting(None, "Pusher's HTTP publish API")
    socketio_emitter: SocketioEmitter | None = setting(None, "Socket.IO's Redis emitters")
    flask_socketio: FlaskSocketio | None = setting(None, "python-socketio's and Flask-SocketIO's write-only managers")

    @field_validator("socketio_emitter", "flask_socketio", mode="before")
    @classmethod
    def _expand_boolean(cls, value: object) -> object:
        # `socketio_emitter = true` enables the format with its defaults.
        return {True: {}, False: None}[value] if isinstance(value, bool) else value

    @property
    def queues(self) -> dict[str, QueueSource]:
        """The durable queues, by name."""
        return self.__pydantic_extra__

    def tables(self) -> dict[str, SettingsModel]:
        """All configured tables by name: formats first, then queues."""
        formats = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: source for name, source in formats.items() if source is not None} | self.queues

    def pubsub_sources(self) -> dict[str, PubSubSource]:
        """The configured formats over Redis pub/sub, by name."""
        sources = {"socketio_emitter": self.socketio_emitter, "flask_socketio": self.flask_socketio}
        return {name: source for name, source in sources.items() if source is not None}
