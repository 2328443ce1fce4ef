from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.network.scripted_server import Peer, ScriptedServer
from support.vectors import FOLDER
from tidings.errors import TidingsError
from tidings.tokens import Key, KeySet
from tidings_hub.cli import main
from tidings_hub.commands.event_stream import EventStream

SECRET = "n7Qe2VYcB5sK0xTfM8rL1uJ9dWzHgA3p"
ROOT = FOLDER.parents[1]

pytestmark = pytest.mark.usefixtures("nowhere")
Output = pytest.CaptureFixture[str]


def command(*arguments: str, env: dict[str, str] | None = None, hide: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command in its own process. `hide`: modules that cannot be imported there."""
    prelude = f"import sys; sys.modules.update(dict.fromkeys({hide.split()!r}))\n" if hide else ""
    program = f"{prelude}import sys\nfrom tidings_hub.cli import main\nsys.exit(main({list(arguments)!r}))"
    paths = os.pathsep.join([str(ROOT / "hub"), str(ROOT / "adapters")])
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": paths} | (env or {})
    return subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def error_line(process: subprocess.CompletedProcess[str]) -> str:
    """The only output of a command that failed."""
    assert process.stderr.startswith("tidings: "), process.stderr
    assert process.stderr.count("\n") == 1, process.stderr
    assert process.stdout == ""
    return process.stderr


def test_serve_without_keys_prints_the_command_that_generates_one() -> None:
    process = command("serve", "--port", "0")
    assert process.returncode == 2
    assert "TIDINGS_SECRET=$(openssl rand -base64 32)" in error_line(process)


@pytest.mark.parametrize("flag", [["tail", "a:1", "--count"], ["presence", "a:1", "--limit"]])
@pytest.mark.parametrize("number", ["-1", "0", "1.5", "9" * 5000])
def test_flag_that_counts_is_above_zero(flag: list[str], number: str, capsys: Output) -> None:
    with pytest.raises(SystemExit):
        main([*flag, number])
    assert "not a whole number above 0" in capsys.readouterr().err


def test_serve_dev_is_rejected_outside_loopback() -> None:
    process = command("serve", "--dev", "--host", "0.0.0.0")
    assert process.returncode == 2
    assert "loopback" in error_line(process)


def test_serve_rejects_a_placeholder_secret() -> None:
    process = command("serve", env={"TIDINGS_SECRET": "change-me-change-me-change-me-change-me"})
    assert process.returncode == 2
    assert "placeholder" in error_line(process)


@pytest.mark.parametrize("arguments", [["serve"], ["check-config"], ["print-config"], ["conformance"]])
def test_missing_server_extra_prints_the_pip_command(arguments: list[str]) -> None:
    process = command(*arguments, hide="eventlet greenlet pydantic flask httptools socketio engineio")
    assert process.returncode == 2
    assert "pip install 'tidings[server]'" in error_line(process)


def test_missing_profiler_prints_the_pip_command() -> None:
    process = command("serve", "--dev", "--profile", "profile.html", hide="pyinstrument")
    assert process.returncode == 2
    assert "pip install 'tidings[profile]'" in error_line(process)


def test_token_needs_only_the_jwt_extra() -> None:
    bare = "eventlet greenlet pydantic flask httptools socketio engineio redis hiredis"
    process = command("token", "--sub", "ann", env={"TIDINGS_SECRET": SECRET}, hide=bare)
    assert (process.returncode, process.stderr) == (0, "")
    assert KeySet([Key("HS256", SECRET)]).verify(process.stdout.strip(), now_s=time.time()).sub == "ann"
    process = command("token", "--sub", "ann", env={"TIDINGS_SECRET": SECRET}, hide=bare + " jwt")
    assert process.returncode == 2
    assert "pip install 'tidings[jwt]'" in error_line(process)


def test_publish_works_without_the_server_extra() -> None:
    process = command(
        "publish",
        "a:b",
        "x",
        "1",
        "--url",
        "http://127.0.0.1:9",
        hide="eventlet greenlet pydantic flask httptools socketio engineio",
    )
    assert process.returncode == 1
    error_line(process)


def test_token_has_the_requested_claims(capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDINGS_SECRET", SECRET)
    monkeypatch.setenv("TIDINGS_AUDIENCE", "hub")
    flags = ["--channels", "orders:*", "news:1", "--expires-in-s", "60", "--info", '{"name":"Ann"}']
    assert main(["token", "--sub", "ann", *flags]) == 0
    keys = KeySet([Key("HS256", SECRET)], audience="hub")
    claims = keys.verify(capsys.readouterr().out.strip(), now_s=time.time())
    assert (claims.sub, claims.channels, claims.info) == ("ann", ("orders:*", "news:1"), {"name": "Ann"})
    assert 50 < (claims.expires_at_s or 0) - time.time() < 62


def test_token_is_signed_with_the_key_of_the_kid(capsys: Output, nowhere: Path) -> None:
    (nowhere / "tidings.toml").write_text(
        f'[[keys]]\nkid = "a"\nsecret = "{SECRET}"\n[[keys]]\nkid = "b"\nsecret = "{SECRET[::-1]}"\n'
    )
    assert main(["token", "--sub", "ann", "--kid", "b"]) == 0
    only_b = KeySet([Key("HS256", SECRET[::-1], kid="b")])
    assert only_b.verify(capsys.readouterr().out.strip(), now_s=time.time()).sub == "ann"
    assert main(["token", "--sub", "ann", "--kid", "c"]) == 2


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["token", "--sub", "ann"], "openssl rand"),
        (["token", "--sub", "ann", "--algorithm", "RS256"], "--key-file"),
        (["token", "--sub", "ann", "--key-file", "none.pem"], "none.pem"),
        (["publish", "a:b", "x", "{"], "not JSON"),
        (["publish", "everyone", "x", "1"], "namespace:name"),
        (["publish", "a:b", "connect", "1"], "reserved"),
        (["publish", "a:b", "x", "1", "--url", "memory://"], "--url http://"),
        (["publish", "a:b", "x", "1", "--url", "mysql://x"], "redis"),
        (["tail", "everyone"], "namespace:name"),
        (["tail", "a:b", "--url", "http://"], "http"),
        (["tail", "a:b", "--url", "http://127.0.0.1:9", "--token", "the\ntoken"], "the token contains line breaks"),
        (["tail", "a:b", "--url", "http://127.0.0.1:9", "--token", "t\u00f6ken"], "non-ASCII"),
        (["tail", "a:b", "--url", "http://127.0.0.1:9", "--since", "a\tb"], "the cursor contains"),
        (["tail", "a:b", "--url", "http://127.0.0.1:9/p\u00fcsh"], "not the address of a hub"),
        (["tail", "a:b", "--url", "http://127.0.0.1:9?x=1"], "not the address of a hub"),
        (["tail", "a:b", "--url", "http://ann:hunter2@127.0.0.1:9"], "must not contain a password"),
        (["tail", "a:b", "--url", "127.0.0.1:9"], "followed by ://"),
        (["doctor", "--url", "127.0.0.1:9"], "followed by ://"),
        (["token", "--sub", "ann", "--expires-in-s", "nan"], "above 0"),
        (["token", "--sub", "ann", "--expires-in-s", "-1"], "above 0"),
        (["token", "--sub", "ann", "--key-file", "."], "Is a directory"),
        (["check-config"], "openssl rand"),
        (["check-config", "--config", "none.toml"], "none.toml"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_every_error_is_one_line_with_the_fix(arguments: list[str], hint: str, capsys: Output) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("tidings: ")
    assert hint in captured.err
    assert "hunter2" not in captured.err


@pytest.mark.parametrize(
    ("flag", "hint"), [("--port=70000", "not a port"), ("--host=256.256.256.256", "cannot listen")]
)
def test_conformance_that_cannot_listen_prints_one_line(flag: str, hint: str) -> None:
    process = command("conformance", flag)
    assert process.returncode == 2
    assert hint in error_line(process)


def test_unreachable_broker_and_hub_are_reported(capsys: Output) -> None:
    assert main(["publish", "a:b", "x", "1", "--url", "redis://127.0.0.1:9/0"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["doctor", "--url", "http://127.0.0.1:9"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("ok    settings")
    assert lines[1].startswith("FAIL  http://127.0.0.1:9/healthz")
    assert "tidings serve" in lines[1]


@pytest.mark.parametrize(
    ("status", "hint"), [("502 Bad Gateway", "cannot reach the hub"), ("200 OK", "not from a hub")]
)
def test_response_of_another_server_is_explained(status: str, hint: str, capsys: Output) -> None:
    requests = []

    def respond(peer: Peer) -> None:
        requests.append(peer.read_request().partition(b" HTTP/")[0])
        page = b"<html>nginx</html>"
        peer.send(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status.encode(), len(page), page))

    with ScriptedServer(respond) as server:
        assert main(["doctor", "--url", f"{server.url}/push"]) == 1
        assert hint in capsys.readouterr().out.splitlines()[1]
        with pytest.raises(TidingsError, match=hint):
            EventStream(f"{server.url}/push", ["a:b"], token=None)
    # The path of the URL is kept.
    assert (requests[0], requests[-1]) == (b"GET /push/healthz", b"GET /push/sse?channels=a%3Ab")


@pytest.mark.parametrize(
    ("response", "hint"),
    [
        (b"SSH-2.0-x\x1b[31m\r\n", r"does not speak HTTP: 'SSH-2\.0-x\\x1b\[31m'"),
        (
            b"HTTP/1.1 301 Moved\r\nLocation: https://push.example/sse\r\nContent-Length: 0\r\n\r\n",
            r"redirects to 'https://push\.example/sse' \(status 301\)",
        ),
    ],
)
def test_another_server_at_the_address_is_reported_in_one_line(capsys: Output, response: bytes, hint: str) -> None:
    def respond(peer: Peer) -> None:
        peer.read_request()
        peer.send(response)

    with ScriptedServer(respond) as server:
        assert main(["doctor", "--url", server.url]) == 1
        assert re.search(hint, capsys.readouterr().out)
        with pytest.raises(TidingsError, match=hint) as caught:
            EventStream(server.url, ["a:b"], token=None)
        assert str(caught.value).isprintable()


def test_check_config_and_print_config(capsys: Output, nowhere: Path) -> None:
    (nowhere / "tidings.toml").write_text(f'secret = "{SECRET}"\norigins = ["*"]\n')
    assert main(["check-config"]) == 0
    output = capsys.readouterr().out
    assert "the settings are right (tidings.toml)" in output
    assert "INSECURE" in output
    assert main(["print-config"]) == 0
    toml = capsys.readouterr().out
    assert SECRET not in toml
    assert 'origins = ["*"]  # file' in toml


@pytest.mark.parametrize(
    "arguments", [[], ["fly"], ["publish"], ["token"], ["serve", "--prot", "1"], ["serve", "--por", "1"]]
)
def test_wrong_arguments_exit_with_2_and_print_the_usage(arguments: list[str], capsys: Output) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(arguments)
    assert exit_info.value.code == 2
    assert "usage: tidings" in capsys.readouterr().err


def test_importing_tidings_loads_no_driver() -> None:
    code = (
        "import sys, json, tidings; before = set(sys.modules); tidings.Emitter; tidings.issue\n"
        "print(json.dumps(sorted(set(sys.modules))))"
    )
    process = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(ROOT / "adapters")},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    loaded = {name.partition(".")[0] for name in json.loads(process.stdout)}
    drivers = {
        "redis",
        "hiredis",
        "jwt",
        "kombu",
        "flask",
        "eventlet",
        "requests",
        "httpx",
        "pydantic",
        "sqlalchemy",
        "django",
    }
    assert not loaded & (drivers | {"tidings_hub"})


def test_workers_need_redis() -> None:
    process = command("serve", "--dev", "--workers", "2")
    assert process.returncode == 2
    assert "set broker to redis://" in error_line(process)
