"""`tidings notifications`: runs the service that stores notifications, in a process without eventlet."""

from __future__ import annotations

import argparse
import logging
import select
from functools import partial

from tidings.errors import BadConfig, MissingExtra
from tidings.publishers import kind_of
from tidings_hub import log
from tidings_hub.commands.target import find_target
from tidings_hub.config.settings import Settings
from tidings_hub.node.beat_pipe import report_listening
from tidings_hub.node.open_files import fit_service_files

_PUBLISHERS = ("redis", "cluster", "http")


def run(arguments: argparse.Namespace) -> int:
    """Run the service until SIGTERM or SIGINT. With `--migrate`: bring the tables to this version, and return.

    Raises:
        BadConfig: a setting is wrong. MissingExtra: a package is not installed. Unavailable: the database failed.
    """
    hub = find_target(argparse.Namespace(config=arguments.config, url=arguments.to))
    settings = _with_flags(hub.settings, arguments)
    if not settings.notifications.database:
        raise BadConfig(
            "no database given; use tidings notifications --database sqlite:///tidings.db,"
            " or set database in [notifications]"
        )
    log.setup(arguments.log_level or settings.log_level, select=select)
    # Alembic reports each of its plugins when it is imported.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        from tidings_notifications.service import process
    except ModuleNotFoundError as error:
        if error.name not in {"sqlalchemy", "alembic", "waitress"}:
            raise
        raise MissingExtra(f"missing module {error.name}: pip install 'tidings[server,notifications]'") from error
    if arguments.migrate:
        print(process.migrate_database(settings.notifications.database))
        return 0
    if kind_of(hub.url) not in _PUBLISHERS:
        raise BadConfig("the service publishes to the hub's Redis, or to the hub over HTTP; set --to to one of them")
    beat = None if arguments.with_parent is None else partial(report_listening, arguments.with_parent)
    settings = fit_service_files(settings)
    return process.run(settings, hub.url, prefix=hub.prefix, api_key=hub.api_key, beat=beat)


def _with_flags(settings: Settings | None, arguments: argparse.Namespace) -> Settings:
    """The settings, with the flags of the command line in their places."""
    if settings is None:
        raise MissingExtra("the service needs pip install 'tidings[server,notifications]'")
    flags = {name: value for name in ("database", "listen") if (value := getattr(arguments, name)) is not None}
    values = settings.notifications.model_dump() | flags
    try:
        options = type(settings.notifications).model_validate(values)
    except ValueError as error:
        raise BadConfig(f"--listen {arguments.listen}: an address is host:port, such as 127.0.0.1:8010") from error
    return settings.model_copy(update={"notifications": options})
