"""`python examples/chat` starts a hub, a Flask application, a Celery worker, and Redis unless REDIS_URL is set."""

import argparse
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.request
from pathlib import Path

import redis

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(prog="chat")
    parser.add_argument("--port", type=int, default=5000, help="port of the chat")
    parser.add_argument("--hub-port", type=int, default=8000, help="port of the hub")
    parser.add_argument("--data", type=Path, default=HERE / "chat.sqlite", help="file for the messages")
    parser.add_argument("--contact", help="mailto: address or https URL for push services; turns Web Push on")
    arguments = parser.parse_args()
    # Both signals stop everything. A shell starts background jobs with SIGINT ignored, and Python keeps that otherwise.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    page, hub = f"http://127.0.0.1:{arguments.port}", f"http://127.0.0.1:{arguments.hub_port}"
    with tempfile.TemporaryDirectory() as folder:
        redis_url, redis_server = find_redis(folder)
        environment = os.environ | {
            "CHAT_DATA": str(arguments.data.resolve()),
            "CHAT_HUB": hub,
            # Secrets for this run: for the application's cookies, and for its tokens, which the hub verifies.
            "CHAT_SECRET": secrets.token_hex(32),
            "TIDINGS_SECRET": secrets.token_hex(32),
            "TIDINGS_ORIGINS": f'["{page}"]',
            "TIDINGS_NOTIFICATIONS": json.dumps(notification_settings(arguments.data.resolve(), arguments.contact)),
            "CHAT_WEB_PUSH": "on" if arguments.contact else "",
            "REDIS_URL": redis_url,
        }

        def start(*command: str) -> subprocess.Popen[bytes]:
            return subprocess.Popen([sys.executable, "-m", *command], cwd=HERE, env=environment)  # noqa: S603

        hub_options = ["--port", str(arguments.hub_port), "--broker", redis_url, "--config", "tidings.toml"]
        children = [start("tidings_hub", "serve", *hub_options)]
        try:
            # The page loads the SDK from the hub, so the hub is ready first.
            wait_until_ready(f"{hub}/readyz", children)
            children.append(start("flask", "--app", "app", "run", "--port", str(arguments.port)))
            children.append(start("celery", "--app", "worker", "worker", "--pool", "solo", "--loglevel", "warning"))
            wait_until_ready(f"{page}/", children)
            print(f"The chat is at {page}/", flush=True)
            run_until_one_ends(children)
        except KeyboardInterrupt:
            print("Stopping.")
        finally:
            stop(children)
            stop(redis_server)


def notification_settings(data: Path, contact: str | None) -> dict[str, object]:
    """The hub stores notifications beside the messages. With a contact for push services it sends pushes, too."""
    # The variable replaces the whole table of the file.
    settings: dict[str, object] = tomllib.loads((HERE / "tidings.toml").read_text())["notifications"] | {
        "database": f"sqlite:///{data.with_name('notifications.sqlite')}",
        "listen": f"127.0.0.1:{free_port()}",
    }
    if contact:
        key_file = data.with_name("vapid.pem")
        if not key_file.exists():
            subprocess.run([sys.executable, "-m", "tidings_hub", "vapid", str(key_file)], check=True)  # noqa: S603
        settings["web_push"] = {"vapid_key_file": str(key_file), "contact": contact}
    return settings


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def find_redis(folder: str) -> tuple[str, list[subprocess.Popen[bytes]]]:
    """The Redis for hub, worker and application: the one of REDIS_URL, or a new process."""
    if "REDIS_URL" in os.environ:
        return os.environ["REDIS_URL"], []
    program = shutil.which("redis-server") or sys.exit("Install redis-server, or set REDIS_URL to a running Redis.")
    port = str(free_port())
    command = [program, "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", folder, "--loglevel", "warning"]
    server = subprocess.Popen(command)  # noqa: S603 - fixed command
    url = f"redis://127.0.0.1:{port}/0"
    while server.poll() is None and not responds(url):
        time.sleep(0.05)
    return url, [server]


def responds(url: str) -> bool:
    with redis.Redis.from_url(url, socket_timeout=1) as client:
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False


def wait_until_ready(url: str, children: list[subprocess.Popen[bytes]]) -> None:
    """Wait until the address responds, or until a child ends: it has printed the reason."""
    while all(child.poll() is None for child in children):
        try:
            with urllib.request.urlopen(url, timeout=1):  # noqa: S310 - an address of this program
                return
        except OSError:
            time.sleep(0.1)


def run_until_one_ends(children: list[subprocess.Popen[bytes]]) -> None:
    while all(child.poll() is None for child in children):
        time.sleep(0.2)


def stop(children: list[subprocess.Popen[bytes]]) -> None:
    for child in children:
        child.terminate()
    for child in children:
        child.wait()


if __name__ == "__main__":
    main()
