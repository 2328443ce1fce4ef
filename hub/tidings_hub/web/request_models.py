"""Request bodies of the HTTP API. `openapi.py` generates the OpenAPI document from these models.

`title` is the name of a model's schema in that document. Generated clients use it, so it stays when a class is renamed.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema

from tidings.errors import BadRequest
from tidings.number_checks import TIME_MAX_S
from tidings_hub.web import schemas
from tidings_hub.web.schemas import ChannelName, ChannelNames, EventName, PublicationId, TokenId, UserName

# The end of the year 9999, the last year that `datetime` supports.
_FOR_MAX_S = 10 * 366 * 86_400
_PATH_MAX_CHARS = 60

Model = TypeVar("Model", bound="RequestModel")


class RequestModel(BaseModel):
    """A request body. Unknown names are errors, and types are not converted."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def validate(model: type[Model], value: object) -> Model:
    """Build a `model` from decoded JSON.

    Raises:
        CallerError: the error of the first name that is not valid, or BadRequest with the first wrong field.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False, include_context=False)[0]
        path = ascii(".".join(str(step) for step in details["loc"]))[1:-1][:_PATH_MAX_CHARS]
        raise BadRequest(f"{path}: {details['msg']}" if path else details["msg"]) from error


Ack = Annotated[
    bool,
    Field(description="Clients acknowledge it; `/api/publications/{id}` reports deliveries and acknowledgements"),
]


class PublishToChannel(RequestModel):
    """One publication in one channel."""

    channel: ChannelName
    event: EventName
    data: Any = Field(description="Any JSON, at most `publication_max_bytes` when compact, nested 64 levels at most")
    id: PublicationId | None = Field(default=None, description="Without it, the hub generates one")
    ack: Ack = False


class PublishToChannels(RequestModel):
    """The same event and data in several channels, as one publication per channel."""

    channels: ChannelNames
    event: EventName
    data: Any = Field(description="As for one channel")
    id: PublicationId | None = None
    ack: Ack = False


class PublishToUser(RequestModel):
    """One publication in the channel `user:<sub>`, to which each connection of this user is subscribed."""

    user: UserName
    event: EventName
    data: Any = Field(description="As for one channel")
    id: PublicationId | None = None
    ack: Ack = False


PublishBody: TypeAlias = PublishToChannel | PublishToChannels | PublishToUser
TARGETS: dict[str, type[PublishBody]] = {
    "channel": PublishToChannel,
    "channels": PublishToChannels,
    "user": PublishToUser,
}

UntilS = Annotated[float, Field(gt=0, le=TIME_MAX_S, description="Seconds since 1970")]
ForS = Annotated[float, Field(gt=0, le=_FOR_MAX_S, description="Seconds from now")]


class RevokeUserFor(RequestModel):
    """Revoke a user for a duration."""

    user: UserName
    for_s: ForS


class RevokeUserUntil(RequestModel):
    """Revoke a user until a time."""

    user: UserName
    until_s: UntilS


class RevokeTokenFor(RequestModel):
    """Revoke one token, by its `jti`, for a duration."""

    jti: TokenId
    for_s: ForS


class RevokeTokenUntil(RequestModel):
    """Revoke one token, by its `jti`, until a time. The expiry of the token (`exp`) is late enough."""

    jti: TokenId
    until_s: UntilS


Revocation: TypeAlias = RevokeUserFor | RevokeUserUntil | RevokeTokenFor | RevokeTokenUntil
REVOCATIONS: dict[tuple[str, str], type[Revocation]] = {
    ("user", "for_s"): RevokeUserFor,
    ("user", "until_s"): RevokeUserUntil,
    ("jti", "for_s"): RevokeTokenFor,
    ("jti", "until_s"): RevokeTokenUntil,
}


class ChannelBody(RequestModel, title="ChannelOfUser"):
    """The channel to subscribe to, or to unsubscribe from."""

    channel: ChannelName


class _Notification(RequestModel):
    """The fields of a notification. `tidings.wire.notification_request` checks them."""

    category: Annotated[str, WithJsonSchema(schemas.CATEGORY)]
    title: Annotated[str, WithJsonSchema(schemas.TITLE)]
    body: Annotated[str | None, WithJsonSchema(schemas.NOTIFICATION_BODY)] = None
    url: Annotated[str | None, WithJsonSchema(schemas.LINK)] = None
    icon: Annotated[str | None, WithJsonSchema(schemas.LINK)] = None
    data: Any = Field(default=None, description="Any JSON; all of the notification has less than 64 KiB by default")
    id: Annotated[str | None, WithJsonSchema(schemas.NOTIFICATION_ID)] = None
    group: Annotated[str | None, WithJsonSchema(schemas.GROUP)] = None
    expires_in_s: Annotated[float | None, WithJsonSchema(schemas.EXPIRES_IN_S)] = None


class NotifyUser(_Notification):
    """A notification for one user."""

    user: UserName


class NotifyUsers(_Notification):
    """The same notification for several users."""

    users: Annotated[list[str], WithJsonSchema(schemas.USERS)]


NOTIFICATIONS: tuple[type[RequestModel], ...] = (NotifyUser, NotifyUsers)


class NotificationsById(RequestModel, title="NotificationsById"):
    """The ids of notifications: their own, or those that the backend gave them."""

    ids: Annotated[list[str], Field(min_length=1), WithJsonSchema(schemas.NOTIFICATION_IDS)]


class NotificationsOfGroup(RequestModel, title="NotificationsOfGroup"):
    """A group: all its notifications."""

    group: str
