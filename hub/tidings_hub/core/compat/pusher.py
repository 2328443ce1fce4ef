"""Pusher's HTTP publish API: checks a request's signature and reads its events.

Source: pusher.com/docs/channels/library_auth_reference/rest-api (events, batch_events, authentication).
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import md5, sha256
from typing import Any

from tidings.errors import BadChannel, BadData, BadRequest, TidingsError, Unauthorized
from tidings.wire.channels import check_event
from tidings.wire.payload import encode_data
from tidings_hub.core.compat.channel_mapping import ChannelMapping
from tidings_hub.core.compat.requests import PublishRequest
from tidings_hub.core.strict_json import loads

VERSION = "1.0"
# The clocks of a backend and a node may differ by this much. A recorded request can be replayed for as long.
WINDOW_S = 600
CHANNELS_MAX = 100
# Prefix of a user's own channel in Pusher's libraries (`sendToUser`).
USER_CHANNEL_PREFIX = "#server-to-user-"


@dataclass(frozen=True, slots=True)
class PusherCredentials:
    """The credentials of one Pusher application, as configured in its backends."""

    app_id: str
    key: str
    secret: str = field(repr=False)


def check_signature(app: PusherCredentials, path: str, query: Mapping[str, str], *, now_s: float) -> None:
    """Check that `app` signed a POST to `path` with this query within the last ten minutes.

    The signature covers `body_md5`, which `check_body` compares with the body. The format has no nonce: a recorded
    request can be replayed within the ten minutes.

    Raises:
        Unauthorized: it did not; the message names what to check.
    """
    signed = sorted((name.lower(), value) for name, value in query.items() if name.lower() != "auth_signature")
    text = f"POST\n{path}\n" + "&".join(f"{name}={value}" for name, value in signed)
    proof = hmac.new(app.secret.encode(), text.encode("utf-8", "replace"), sha256).hexdigest()
    signature = query.get("auth_signature", "")
    # Both are always compared, so that the response time does not show which one is wrong.
    is_key_valid = hmac.compare_digest(_digest(query.get("auth_key", "")), _digest(app.key))
    is_signature_valid = hmac.compare_digest(_digest(signature), _digest(proof))
    if not (is_key_valid and is_signature_valid):
        raise Unauthorized("invalid signature: check app id, key and secret")
    if query.get("auth_version") != VERSION:
        raise Unauthorized(f"auth_version is {VERSION}")
    stamp = query.get("auth_timestamp", "")
    if not (stamp.isascii() and stamp.isdecimal() and len(stamp) <= 12 and abs(now_s - int(stamp)) <= WINDOW_S):
        raise Unauthorized(f"auth_timestamp is more than {WINDOW_S} s from this server's time; set the clock")


def check_body(query: Mapping[str, str], body: bytes) -> None:
    """Check that the body is the one that was signed.

    Raises:
        Unauthorized: it is not.
    """
    # The format prescribes MD5. The security comes from the HMAC over it.
    body_md5 = md5(body, usedforsecurity=False).hexdigest()
    if not hmac.compare_digest(_digest(query.get("body_md5", "")), _digest(body_md5)):
        raise Unauthorized("body_md5 is not that of the body")


def _digest(text: str) -> bytes:
    # Digests have the same length, so a comparison does not reveal the length of a secret.
    return sha256(text.encode("utf-8", "replace")).digest()


def read_event(body: bytes, mapping: ChannelMapping, *, data_max_bytes: int) -> PublishRequest:
    """The publication of a `POST /apps/<id>/events`.

    Raises:
        BadRequest, BadChannel, BadEvent, BadData, TooLarge: nothing of it is published.
    """
    fields = _object(loads(body))
    if ("channel" in fields) == ("channels" in fields):
        raise BadRequest("give one of channel and channels")
    names = fields["channels"] if "channels" in fields else [fields["channel"]]
    if not isinstance(names, list) or not names:
        raise BadChannel("channels is a list with at least one channel; tidings never publishes to everyone")
    if len(names) > CHANNELS_MAX:
        raise BadRequest(f"{len(names)} channels; at most {CHANNELS_MAX} at once")
    return _publish_request(fields, names, mapping, data_max_bytes)


def read_batch(body: bytes, mapping: ChannelMapping, *, data_max_bytes: int) -> list[PublishRequest]:
    """The publications of a `POST /apps/<id>/batch_events`, in order.

    Raises:
        BadRequest, BadChannel, BadEvent, BadData, TooLarge: nothing of it is published.
    """
    batch = _object(loads(body)).get("batch")
    if not isinstance(batch, list) or not batch:
        raise BadRequest("batch is a list with at least one event")
    requests = []
    for index, item in enumerate(batch):
        try:
            fields = _object(item)
            requests.append(_publish_request(fields, [fields.get("channel")], mapping, data_max_bytes))
        except TidingsError as error:
            raise type(error)(f"batch[{index}]: {error}") from error
    return requests


def _publish_request(
    fields: Mapping[str, Any], names: list[object], mapping: ChannelMapping, data_max_bytes: int
) -> PublishRequest:
    for name, about in _UNSUPPORTED.items():
        if fields.get(name):
            raise BadRequest(about)
    event = check_event(fields.get("name"))
    channels = dict.fromkeys(_channel(name, mapping) for name in names)
    return PublishRequest(tuple(channels), event, _data(fields.get("data"), data_max_bytes))


# Parameters that libraries send only on request. To ignore them would publish something else than requested.
_UNSUPPORTED = {
    "socket_id": "socket_id: tidings cannot leave out one connection; publish without it",
    "info": "info: tidings does not answer with attributes of channels; publish without it",
}


def _channel(name: object, mapping: ChannelMapping) -> str:
    if isinstance(name, str) and name.startswith(USER_CHANNEL_PREFIX):
        return mapping.to_channel("user:" + name.removeprefix(USER_CHANNEL_PREFIX))
    return mapping.to_channel(name)


def _data(text: object, data_max_bytes: int) -> bytes:
    """The data as pusher-js hands it to a handler: the value of the text if it is JSON, otherwise the text itself."""
    if not isinstance(text, str):
        raise BadData("data is a string; Pusher's libraries encode everything else as JSON")
    try:
        value = loads(text.encode("utf-8", "surrogatepass"))
    except BadRequest as error:
        if _nearly_json(text):
            raise BadData(str(error).replace("the body", "data")) from error
        value = text
    return encode_data(value, max_bytes=data_max_bytes)


def _nearly_json(text: str) -> bool:
    """Whether the text would be an object or a list but for NaN and the like.

    To publish it as text would hide the error.
    """
    try:
        return isinstance(json.loads(text), dict | list)
    except RecursionError:
        return True
    except ValueError:
        return False


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadRequest("an event is a JSON object with name, data and channel or channels")
    return value
