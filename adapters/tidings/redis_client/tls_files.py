"""Checks the TLS options of a URL: a wrong file would otherwise be found at each connect, and look like an outage."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from errno import ENOTDIR
from os import strerror
from pathlib import Path
from typing import Any

from tidings.errors import BadConfig


def check_tls(options: Mapping[str, Any], prefix: str, shown_prefix: str) -> None:
    """Load what the options name, as a connection does. Names in errors begin with `shown_prefix` and `prefix`.

    The options after `prefix`: ca_certs, ca_path, ca_data, certfile, keyfile, password, ciphers, cert_reqs and
    check_hostname. All are optional.

    Raises:
        BadConfig: a file is missing or malformed, or options contradict each other. The message shows no value.
    """
    by_name = {name.removeprefix(prefix): value for name, value in options.items() if name.startswith(prefix)}
    shown = shown_prefix + prefix
    if by_name.get("cert_reqs") == "none" and by_name.get("check_hostname"):
        raise BadConfig(f"{shown}check_hostname=true has no effect with {shown}cert_reqs=none; use required")
    for name in ("keyfile", "password"):
        if name in by_name and "certfile" not in by_name:
            raise BadConfig(f"the option {shown}{name} in the URL needs {shown}certfile")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Without a password, OpenSSL would ask for it on the terminal and wait.
    password = str(by_name.get("password") or "")
    steps: Mapping[str, tuple[Callable[[Any], object], str]] = {
        "ca_certs": (lambda file: context.load_verify_locations(cafile=file), "names no file of certificates"),
        "ca_path": (_check_folder, "does not name a folder"),
        "ca_data": (lambda data: context.load_verify_locations(cadata=data), "holds no certificates"),
        "certfile": (
            lambda file: context.load_cert_chain(file, by_name.get("keyfile") or None, lambda: password),
            "names no certificate with its key, or the password of the key is wrong",
        ),
        "ciphers": (context.set_ciphers, "names no cipher"),
    }
    for name in steps.keys() & by_name.keys():
        load, problem = steps[name]
        try:
            load(by_name[name])
        except (OSError, ValueError, TypeError) as error:
            # `str` of an OSError contains the name of the file.
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
            raise BadConfig(f"the option {shown}{name} in the URL {problem} ({reason})") from None


def _check_folder(path: str) -> None:
    if not Path(path).is_dir():
        raise NotADirectoryError(ENOTDIR, strerror(ENOTDIR))
