"""`tidings notify USER … --category NAME --title TEXT`: puts a notification into inboxes and prints the receipts."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from tidings.emitter import Emitter
from tidings.errors import BadData, TidingsError
from tidings.options import NotificationOptions
from tidings.receipts import BatchFailed, NotificationReceipt
from tidings_hub.commands.target import find_target


def run(arguments: argparse.Namespace) -> int:
    """Notify the users, and print a line of JSON for each. Returns 1 if it was not accepted for all of them.

    Raises:
        TidingsError: it was accepted for none of them.
    """
    options = _options(arguments)
    users = list(dict.fromkeys(arguments.users))
    target = find_target(argparse.Namespace(config=arguments.config, url=arguments.to))
    results: Sequence[object]
    with Emitter(target.url, prefix=target.prefix, api_key=target.api_key) as emitter:
        try:
            results = emitter.notify(arguments.category, users=users, **options)
        except BatchFailed as error:
            results = error.results
    for user, result in zip(users, results, strict=True):
        print(json.dumps({"user": user, **_fields(result)}))
    return int(any(isinstance(result, TidingsError) for result in results))


def _options(arguments: argparse.Namespace) -> NotificationOptions:
    options = NotificationOptions(
        title=arguments.title,
        body=arguments.body,
        url=arguments.url,
        icon=arguments.icon,
        id=arguments.id,
        group=arguments.group,
        expires_in_s=arguments.expires_in_s,
    )
    if arguments.data is not None:
        try:
            options["data"] = json.loads(arguments.data)
        except ValueError as error:
            raise BadData(f"""--data is not JSON: {error}; quote it, as in '{{"id": 42}}' or '"text"'""") from error
    return options


def _fields(result: object) -> dict[str, object]:
    if isinstance(result, NotificationReceipt):
        return {"id": result.id, "state": result.state, "duplicate": result.duplicate}
    return {"error": result.to_wire() if isinstance(result, TidingsError) else str(result)}
