"""The command line program `tidings`, which runs a hub and has tools for it.

Exit codes: 0 success, 1 failure, 2 wrong arguments or a wrong setting. Every error is one line on standard error, with
the fix.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tidings.errors import CallerError, MissingExtra, TidingsError

if TYPE_CHECKING:
    from tidings_hub.config.settings import Settings

Command = Callable[[argparse.Namespace], int]
# Packages of the extra `[server]`, by the module name in an ImportError.
_SERVER_MODULES = frozenset(
    {"engineio", "eventlet", "flask", "greenlet", "hiredis", "httptools", "prometheus_client", "pydantic", "socketio"}
)
# Flags of `tidings serve` that are settings.
_SERVE_FLAGS = ("dev", "host", "port", "broker", "node_id", "log_level", "workers", "app", "wsgi")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = parser().parse_args(argv)
    _restore_interrupt()
    try:
        return int(arguments.run(arguments))
    except ModuleNotFoundError as error:
        if error.name not in _SERVER_MODULES:
            raise
        return _print_error(MissingExtra(f"missing module {error.name}: pip install 'tidings[server]'"))
    except TidingsError as error:
        return _print_error(error)
    except BrokenPipeError:
        # The reader of our output has closed the pipe. Python must not fail again when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except KeyboardInterrupt:
        return 130


def _restore_interrupt() -> None:
    """Make SIGINT raise KeyboardInterrupt, also if the shell started this command with SIGINT ignored (as with `&`)."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _print_error(error: TidingsError) -> int:
    print(f"tidings: {error}", file=sys.stderr)
    return 2 if isinstance(error, CallerError) else 1


def parser() -> argparse.ArgumentParser:  # noqa: PLR0915 - one table
    """The argument parser, with every command and its flags."""
    root = argparse.ArgumentParser(
        prog="tidings", description="A push hub that loses nothing in silence.", allow_abbrev=False
    )
    commands = root.add_subparsers(metavar="COMMAND", required=True)

    serve = _command(commands, "serve", _serve, "run a hub")
    _add_settings_flags(serve)
    serve.add_argument("--dev", action="store_true", default=None, help="no tokens, no keys; only for local use")
    serve.add_argument("--host", help="address to listen on (127.0.0.1)")
    serve.add_argument("--port", type=int, help="port to listen on (8000)")
    serve.add_argument("--broker", metavar="URL", help="memory:// or redis://host:6379/0")
    serve.add_argument("--node-id", help="this node's name")
    serve.add_argument("--workers", type=int, metavar="N", help="number of nodes on one port (1); needs Redis")
    serve.add_argument("--log-level", choices=["debug", "info", "warning", "error"], help="minimum level to log (info)")
    serve.add_argument("--app", metavar="MODULE", help="your event handlers, module or module:name")
    serve.add_argument("--wsgi", metavar="MODULE:NAME", help="your WSGI application, for every other path")
    serve.add_argument("--supervise", action="store_true", help=argparse.SUPPRESS)
    serve.add_argument("--profile", type=Path, metavar="FILE", help="write a profile: .html, .json or .txt")

    token = _command(commands, "token", _token, "issue a token for a user")
    _add_settings_flags(token)
    token.add_argument("--sub", required=True, help="the user")
    token.add_argument(
        "--channels", nargs="+", default=[], metavar="PATTERN", help="channels, such as orders:42 or orders:*"
    )
    token.add_argument("--expires-in-s", type=float, default=3600.0, help="seconds until the token expires (3600)")
    token.add_argument("--info", metavar="JSON", help="the info that presence shows for the user")
    token.add_argument("--kid", help="key to sign with, if there are several")
    token.add_argument("--algorithm", default="HS256", choices=["HS256", "RS256", "ES256", "EdDSA"])
    token.add_argument("--key-file", type=Path, help="secret or private key in PEM, instead of the configured secret")

    publish = _command(commands, "publish", _publish, "publish one event in a channel")
    _add_connection_flags(publish)
    publish.add_argument("channel")
    publish.add_argument("event")
    publish.add_argument("data", metavar="JSON", nargs="?", default="null")
    publish.add_argument("--id", help="a repeated id publishes nothing new")

    notify = _command(commands, "notify", _notify, "put a notification into the inbox of users")
    _add_settings_flags(notify)
    notify.add_argument("--to", metavar="URL", help="the hub, http://host:8000, or its broker; default: TIDINGS_URL")
    notify.add_argument("users", nargs="+", metavar="USER")
    notify.add_argument("--category", required=True, metavar="NAME", help="one of [notifications.categories]")
    notify.add_argument("--title", required=True, metavar="TEXT")
    notify.add_argument("--body", metavar="TEXT")
    notify.add_argument("--url", help="where a click leads: https://… or /path")
    notify.add_argument("--icon", metavar="URL", help="an image: https://… or /path")
    notify.add_argument("--data", metavar="JSON", help="anything for the page")
    notify.add_argument("--id", help="a repeated id stores nothing new")
    notify.add_argument("--group", help="it replaces an unread one of this group")
    notify.add_argument("--expires-in-s", type=float, metavar="S", help="it leaves the inbox after S seconds")

    tail = _command(commands, "tail", _tail, "print the publications of channels as they arrive")
    _add_connection_flags(tail)
    tail.add_argument("channels", nargs="+", metavar="CHANNEL")
    tail.add_argument("--token", help="default: TIDINGS_TOKEN, or one signed with the configured secret")
    tail.add_argument("--since", metavar="CURSOR", help="start after this cursor")
    tail.add_argument("--count", type=_count, metavar="N", help="stop after N publications")

    presence = _command(commands, "presence", _presence, "print the members of a channel on all nodes")
    _add_connection_flags(presence)
    presence.add_argument("channel")
    presence.add_argument("--limit", type=_count, default=1000, metavar="N", help="list at most N users (1000)")

    outbox = _command(commands, "outbox", _outbox, "publish the rows that backends wrote into a database's outbox")
    _add_settings_flags(outbox)
    outbox.add_argument("database", metavar="URL", nargs="?", help="postgresql://…; default: TIDINGS_OUTBOX_URL")
    outbox.add_argument("--to", metavar="URL", help="the hub's broker, redis://…, or the hub; default: TIDINGS_URL")
    outbox.add_argument("--table", default="tidings_outbox", metavar="NAME", help="the table (tidings_outbox)")
    outbox.add_argument("--batch", type=int, default=200, metavar="N", help="rows per transaction (200)")
    outbox.add_argument("--interval", type=float, default=1.0, metavar="S", help="poll at least every S seconds (1)")
    outbox.add_argument("--keep", type=int, default=300, metavar="S", help="seconds that Redis remembers an id (300)")
    outbox.add_argument("--attempts", type=int, default=100, metavar="N", help="dead-letter after N refusals (100)")
    outbox.add_argument("--once", action="store_true", help="publish all rows and exit; exit code 1 if rows are left")
    outbox.add_argument("--status", action="store_true", help="print which channels wait, and exit")
    outbox.add_argument("--create", action="store_true", help="create the table if it does not exist")
    outbox.add_argument("--log-level", choices=["debug", "info", "warning", "error"], default="info")

    notifications = _command(commands, "notifications", _notifications, "run the service that stores notifications")
    _add_settings_flags(notifications)
    notifications.add_argument("--database", metavar="URL", help="sqlite:///file.db, postgresql://… or mariadb://…")
    notifications.add_argument("--listen", metavar="HOST:PORT", help="where it answers nodes (127.0.0.1:8010)")
    notifications.add_argument(
        "--to", metavar="URL", help="the hub's broker, redis://…, or the hub; default: TIDINGS_URL"
    )
    notifications.add_argument("--migrate", action="store_true", help="create or update the tables, and exit")
    notifications.add_argument("--log-level", choices=["debug", "info", "warning", "error"])
    # Of the supervisor: its end is the end of standard input, and this descriptor is a pipe for heartbeats.
    notifications.add_argument("--with-parent", type=int, metavar="FD", help=argparse.SUPPRESS)

    vapid = _command(commands, "vapid", _vapid, "make the key for Web Push, and print its public key")
    _add_settings_flags(vapid)
    vapid.add_argument(
        "file", type=Path, metavar="FILE", nargs="?", help="vapid_key_file of the settings, or vapid.pem"
    )
    vapid.add_argument("--show", action="store_true", help="print the public key of an existing file")

    doctor = _command(commands, "doctor", _doctor, "publish and receive one event, and print what fails")
    _add_connection_flags(doctor)
    doctor.add_argument("--token", help="default: TIDINGS_TOKEN, or one signed with the configured secret")
    doctor.add_argument("--channel", help="a channel that the token covers; default: a new one")

    _add_settings_flags(_command(commands, "check-config", _check_config, "check the settings"))
    _add_settings_flags(
        _command(commands, "print-config", _print_config, "print the settings in force, without secrets")
    )

    nginx = _command(commands, "nginx", _nginx, "print an nginx configuration for some nodes")
    nginx.add_argument("--node", action="append", required=True, metavar="ID=HOST:PORT", help="a node (repeatable)")
    nginx.add_argument("--routing", choices=["ip", "sid"], default="ip", help="route by client address or session (ip)")
    nginx.add_argument("--port", default="80", help="port to listen on (80)")
    nginx.add_argument("--server-name", default="_", help="host names of the server; default: any")
    nginx.add_argument("--app", metavar="HOST:PORT", help="your application, for every other path; default: the hubs")
    nginx.add_argument("--static", metavar="FOLDER", help="folder for /static/; default: the hub's own files")
    nginx.add_argument("--certificate", metavar="FILE", help="TLS: the certificate with its chain, PEM")
    nginx.add_argument("--key", metavar="FILE", help="TLS: its private key, PEM")
    nginx.add_argument("--tls-port", default="443", help="TLS: port to listen on (443); --port redirects to it")

    conformance = _command(commands, "conformance", _conformance, "run a server for the official test suites")
    conformance.add_argument("--host", default="127.0.0.1")
    conformance.add_argument("--port", type=int, default=3000)
    return root


def _count(text: str) -> int:
    """The value of a flag that is a number of things."""
    if not re.fullmatch("[0-9]{1,9}", text) or not int(text):
        raise argparse.ArgumentTypeError("not a whole number above 0")
    return int(text)


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, run: Command, description: str
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=description, description=description, allow_abbrev=False)
    command.set_defaults(run=run)
    return command


def _add_settings_flags(command: argparse.ArgumentParser) -> None:
    command.add_argument("--config", type=Path, metavar="FILE", help="TIDINGS_CONFIG, or else tidings.toml")


def _add_connection_flags(command: argparse.ArgumentParser) -> None:
    _add_settings_flags(command)
    command.add_argument("--url", help="the hub, http://host:8000, or its broker, redis://host; default: TIDINGS_URL")


def _serve(arguments: argparse.Namespace) -> int:
    from tidings_hub.node.worker import VARIABLE, Worker

    workers = arguments.workers or os.environ.get("TIDINGS_WORKERS")
    if (arguments.supervise or workers not in {None, "1", 1}) and VARIABLE not in os.environ:
        return _supervise(arguments)
    from tidings_hub import runtime

    runtime.patch()
    from tidings_hub import log

    settings = _load_serve_settings(arguments)
    settings.check_serving()
    if (settings.workers > 1 or settings.notifications.has_child) and VARIABLE not in os.environ:
        # These come from tidings.toml. The supervisor must run unpatched, so start again with a flag.
        flags = [*_serve_flags(arguments), "--workers", str(settings.workers), "--supervise"]
        os.execv(sys.executable, [sys.executable, "-m", "tidings_hub", "serve", *flags])  # noqa: S606 - no shell is needed
    log.setup(settings.log_level, select=runtime.original("select"))
    from tidings_hub.node import serve
    from tidings_hub.node.profiler import Profiler, for_worker

    worker, profile = Worker.from_environment(os.environ), None
    if arguments.profile is not None:
        file = arguments.profile
        profile = Profiler(for_worker(file, worker.index) if worker is not None and worker.has_siblings else file)
    return serve.run(settings, load=lambda: _load_serve_settings(arguments), worker=worker, profile=profile)


def _supervise(arguments: argparse.Namespace) -> int:
    import select

    from tidings_hub import log
    from tidings_hub.node.supervisor import Supervisor

    settings = _load_serve_settings(arguments)
    settings.check_serving()
    log.setup(settings.log_level, select=select)
    environment = dict(os.environ)
    if arguments.config is not None:
        environment["TIDINGS_CONFIG"] = str(arguments.config)
    return Supervisor(
        settings, _serve_flags(arguments), environment, load=lambda: _load_serve_settings(arguments)
    ).run()


def _load_serve_settings(arguments: argparse.Namespace) -> Settings:
    from tidings_hub.config.load import load

    flags = {name: value for name in _SERVE_FLAGS if (value := getattr(arguments, name)) is not None}
    return load(file=arguments.config, env=os.environ, flags=flags).settings


def _serve_flags(arguments: argparse.Namespace) -> list[str]:
    """The flags of this command line, for a new process. The supervisor appends flags, and the last one wins."""
    flags = ["--dev"] if arguments.dev else []
    for name in ("config", "host", "port", "broker", "node_id", "log_level", "app", "wsgi", "profile"):
        value = getattr(arguments, name)
        if value is not None:
            flags += [f"--{name.replace('_', '-')}", str(value)]
    return flags


def _conformance(arguments: argparse.Namespace) -> int:
    from tidings_hub import runtime

    runtime.patch()
    from tidings_hub import log
    from tidings_hub.commands import conformance

    log.setup("warning", select=runtime.original("select"))
    return conformance.run(arguments.host, arguments.port)


def _token(arguments: argparse.Namespace) -> int:
    from tidings_hub.commands import token

    return token.run(arguments)


def _publish(arguments: argparse.Namespace) -> int:
    from tidings_hub.commands import publish

    return publish.run(arguments)


def _notify(arguments: argparse.Namespace) -> int:
    from tidings_hub.commands import notify

    return notify.run(arguments)


def _tail(arguments: argparse.Namespace) -> int:
    from tidings_hub.commands import tail

    return tail.run(arguments)


def _presence(arguments: argparse.Namespace) -> int:
    from tidings_hub.commands import presence

    return presence.run(arguments)


def _outbox(arguments: argparse.Namespace) -> int:
    from tidings_hub.commands import outbox

    return outbox.run(arguments)


def _notifications(arguments: argparse.Namespace) -> int:
    from tidings_hub.commands import notifications

    return notifications.run(arguments)


def _vapid(arguments: argparse.Namespace) -> int:
    from tidings_hub.commands import vapid

    return vapid.run(arguments)


def _doctor(arguments: argparse.Namespace) -> int:
    from tidings_hub.commands import doctor

    return doctor.run(arguments)


def _nginx(arguments: argparse.Namespace) -> int:
    from tidings_hub.commands import nginx

    return nginx.run(arguments)


def _check_config(arguments: argparse.Namespace) -> int:
    from tidings_hub.config.load import load

    loaded = load(file=arguments.config, env=os.environ)
    loaded.settings.check_serving()
    file = f" ({loaded.file})" if loaded.file else ""
    print(f"the settings are right{file}")
    for option in loaded.settings.insecure_options():
        print(f"INSECURE: {option}")
    return 0


def _print_config(arguments: argparse.Namespace) -> int:
    from tidings_hub.config.load import load
    from tidings_hub.config.render import as_toml

    print(as_toml(load(file=arguments.config, env=os.environ)), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
