"""Pusher's HTTP publish API: who signed a request, and what it asks for.

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
# How far the clocks of a backend and a node may be apart, and so how long a request can be repeated by who saw it.
WINDOW_S = 600
CHANNELS_MAX = 100
# How Pusher's libraries name the channel of one user (`sendToUser`).
USER_CHANNEL_PREFIX = "#server-to-user-"


@dataclass(frozen=True, slots=True)
class PusherCredentials:
    """One application of Pusher's, as its backends know it."""

    app_id: str
    key: str
    secret: str = field(repr=False)


def check_signature(app: PusherCredentials, path: str, query: Mapping[str, str], *, now_s: float) -> None:
    """Returns if a POST to `path` with this query was signed by `app` within the last ten minutes.

    The signature covers `body_md5`; `check_body` holds the body against that. There is no nonce in this format: who
    reads a request on its way can repeat it while the ten minutes last.

    Raises:
        Unauthorized: it was not; the message says what to look at.
    """
    signed = sorted((name.lower(), value) for name, value in query.items() if name.lower() != "auth_signature")
    text = f"POST\n{path}\n" + "&".join(f"{name}={value}" for name, value in signed)
    proof = hmac.new(app.secret.encode(), text.encode("utf-8", "replace"), sha256).hexdigest()
    given = query.get("auth_signature", "")
    # Both are always compared: the time must not tell which one was right.
    key_fits = hmac.compare_digest(_digest(query.get("auth_key", "")), _digest(app.key))
    proof_fits = hmac.compare_digest(_digest(given), _digest(proof))
    if not (key_fits and proof_fits):
        raise Unauthorized("invalid signature: check app id, key and secret")
    if query.get("auth_version") != VERSION:
        raise Unauthorized(f"auth_version is {VERSION}")
    stamp = query.get("auth_timestamp", "")
    if not (stamp.isascii() and stamp.isdecimal() and len(stamp) <= 12 and abs(now_s - int(stamp)) <= WINDOW_S):
        raise Unauthorized(f"auth_timestamp is more than {WINDOW_S} s from this server's time; set the clock")


def check_body(query: Mapping[str, str], body: bytes) -> None:
    """Returns if the body is the one that was signed.

    Raises:
        Unauthorized: it is not.
    """
    # MD5 is what the format has; it is the HMAC over it that secures.
    found = md5(body, usedforsecurity=False).hexdigest()
    if not hmac.compare_digest(_digest(query.get("body_md5", "")), _digest(found)):
        raise Unauthorized("body_md5 is not that of the body")


def _digest(text: str) -> bytes:
    # Of one length, so that comparing tells nothing about a secret's.
    return sha256(text.encode("utf-8", "replace")).digest()


def read_event(body: bytes, renames: ChannelMapping, *, data_max_bytes: int) -> PublishRequest:
    """What `POST /apps/<id>/events` asks for.

    Raises:
        BadRequest, BadChannel, BadEvent, BadData, TooLarge: nothing of it is published.
    """
    said = _object(loads(body))
    if ("channel" in said) == ("channels" in said):
        raise BadRequest("give one of channel and channels")
    names = said["channels"] if "channels" in said else [said["channel"]]
    if not isinstance(names, list) or not names:
        raise BadChannel("channels is a list with at least one channel; nothing is ever sent to everyone")
    if len(names) > CHANNELS_MAX:
        raise BadRequest(f"{len(names)} channels; at most {CHANNELS_MAX} at once")
    return _asked(said, names, renames, data_max_bytes)


def read_batch(body: bytes, renames: ChannelMapping, *, data_max_bytes: int) -> list[PublishRequest]:
    """What `POST /apps/<id>/batch_events` asks for, in order.

    Raises:
        BadRequest, BadChannel, BadEvent, BadData, TooLarge: nothing of it is published.
    """
    batch = _object(loads(body)).get("batch")
    if not isinstance(batch, list) or not batch:
        raise BadRequest("batch is a list with at least one event")
    asked = []
    for place, item in enumerate(batch):
        try:
            said = _object(item)
            asked.append(_asked(said, [said.get("channel")], renames, data_max_bytes))
        except TidingsError as error:
            raise type(error)(f"batch[{place}]: {error}") from error
    return asked


def _asked(
    said: Mapping[str, Any], names: list[object], renames: ChannelMapping, data_max_bytes: int
) -> PublishRequest:
    for name, about in _UNSUPPORTED.items():
        if said.get(name):
            raise BadRequest(about)
    event = check_event(said.get("name"))
    channels = dict.fromkeys(_channel(name, renames) for name in names)
    return PublishRequest(tuple(channels), event, _data(said.get("data"), data_max_bytes))


# What libraries send only when they are asked to, and what would be wrong to pass over.
_UNSUPPORTED = {
    "socket_id": "socket_id: tidings cannot leave out one connection; publish without it",
    "info": "info: tidings does not answer with attributes of channels; publish without it",
}


def _channel(name: object, renames: ChannelMapping) -> str:
    if isinstance(name, str) and name.startswith(USER_CHANNEL_PREFIX):
        return renames.to_channel("user:" + name.removeprefix(USER_CHANNEL_PREFIX))
    return renames.to_channel(name)


def _data(text: object, data_max_bytes: int) -> bytes:
    """The data as pusher-js would hand it over: what the text says if it is JSON, otherwise the text itself."""
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
    """Whether this is an object or a list but for NaN and the like: to publish it as text would hide a mistake."""
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
