"""nginx files of tests: what stands around a printed one, whether nginx takes it, and a certificate for it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from support.installed_programs import program


def as_root() -> str:
    """The line without which nginx, started as root, would change to a user that may read none of a test's folders."""
    return "user root;\n" if os.geteuid() == 0 else ""


def write_config(folder: Path, text: str) -> Path:
    """An nginx.conf around it, with everything that it writes in `folder`."""
    (folder / "tidings.conf").write_text(text.replace("/var/log/nginx/", f"{folder}/"))
    lines = [f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")]
    path = folder / "nginx.conf"
    path.write_text(
        f"{as_root()}pid {folder}/pid;\ndaemon off;\nworker_processes 1;\nevents {{}}\n"
        f"http {{\n{''.join(lines)}\ninclude {folder}/tidings.conf;\n}}\n"
    )
    return path


def check(path: Path) -> None:
    """nginx takes it, without a warning."""
    command = [program("nginx"), "-t", "-q", "-e", str(path.parent / "error.log"), "-c", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def certificate(folder: Path) -> tuple[str, str]:
    """A self-signed certificate for this machine, and its key: two files in `folder`."""
    files = (str(folder / "fullchain.pem"), str(folder / "privkey.pem"))
    command = (
        f"req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -days 2 -subj /CN=localhost"
        f" -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -out {files[0]} -keyout {files[1]}"
    )
    subprocess.run([program("openssl"), *command.split()], check=True, capture_output=True, timeout=60)
    return files
