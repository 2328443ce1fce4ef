"""`tidings vapid`: makes the key that identifies the application to push services, and prints its public half."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from tidings.errors import MissingExtra
from tidings_hub.config.load import load

_DEFAULT_FILE = "vapid.pem"


def run(arguments: argparse.Namespace) -> int:
    """Write a new key and print its public key. With `--show`: print the public key of an existing one.

    Raises:
        BadConfig: the file exists, cannot be written, or with `--show` has no key. MissingExtra: no cryptography.
    """
    try:
        from tidings_notifications.web_push.vapid import VapidKey

        file = arguments.file or Path(_configured_file(arguments.config))
        key = VapidKey.load(file) if arguments.show else VapidKey.create(file)
    except ModuleNotFoundError as error:
        if error.name != "cryptography":
            raise
        raise MissingExtra(f"missing module {error.name}: pip install 'tidings[server,notifications]'") from error
    if not arguments.show:
        print(
            f"{file} has the private key; keep a copy of it. In tidings.toml:\n"
            f'[notifications.web_push]\nvapid_key_file = "{file.absolute()}"\ncontact = "mailto:…"\n'
            "The public key:",
            file=sys.stderr,
        )
    print(key.public_key)
    return 0


def _configured_file(config: Path | None) -> str:
    return load(file=config, env=os.environ).settings.notifications.web_push.vapid_key_file or _DEFAULT_FILE
