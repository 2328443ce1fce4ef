"""All commands, settings, metrics, files and sections that docs/operations.md names exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from tidings_hub.cli import parser
from tidings_hub.config.security import Namespace
from tidings_hub.config.settings import Settings
from tidings_hub.metrics import FIELDS, Kind

ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
ENDINGS = {
    Kind.COUNTER: ("_total",),
    Kind.BY_CODE: ("_total",),
    Kind.GAUGE: ("",),
    Kind.HISTOGRAM: ("_bucket", "_sum", "_count"),
}


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def test_every_command_exists() -> None:
    # Commands in a sentence may be wrapped.
    in_sentences = [command.replace("\n", " ") for command in re.findall(r"`(tidings [a-z][^`]*)`", TEXT)]
    joined = "\n".join([*blocks("sh"), *in_sentences]).replace("\\\n", " ")
    commands = re.findall(r"^(?:\w+=\S+ )*(tidings .*?)(?: > .*| &&.*)?$", joined, re.MULTILINE)
    assert len(commands) >= 8
    for command in commands:
        words = shlex.split(command, comments=True)[1:]
        # `tidings doctor` in a sentence has no arguments; the others must be complete.
        if words not in (["nginx"], ["publish"]):
            parser().parse_args(words)


def test_every_metric_exists() -> None:
    existing = {f"tidings_{name}{ending}" for name, (kind, _) in FIELDS.items() for ending in ENDINGS[kind]}
    named = set(re.findall(r"\btidings_[a-z_]*[a-z]", TEXT)) - {"tidings_hub"}
    assert len(named) > 10
    assert named <= existing


def test_every_setting_and_metric_in_a_sentence_exists() -> None:
    words = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", re.sub(r"^```.*?^```", "", TEXT, flags=re.MULTILINE | re.DOTALL)))
    codes = {"bad_origin", "unknown_namespace"}
    in_readyz = {"canary_error", "broker_error"}
    of_others = {
        *("worker_connections", "worker_rlimit_nofile", "worker_shutdown_timeout", "proxy_read_timeout"),
        *("set_real_ip_from", "non_idempotent", "real_ip_header", "stop_grace_period", "connect_error", "used_memory"),
    }
    metrics = {f"{prefix}{name}{ending}" for name in FIELDS for prefix in ("", "tidings_") for ending in ("", "_total")}
    unknown = words - set(Settings.model_fields) - set(Namespace.model_fields) - metrics - codes - in_readyz - of_others
    assert unknown == set()


def test_alerts_are_valid_yaml() -> None:
    (text,) = blocks("yaml")
    (group,) = yaml.safe_load(text)["groups"]
    assert all({"alert", "expr"} <= set(rule) for rule in group["rules"])


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)]+)\)", TEXT))))
def test_every_link_has_a_target(link: str) -> None:
    path, _, anchor = link.partition("#")
    if path.startswith("http"):
        return
    target = ROOT / "docs" / path if path else ROOT / "docs" / "operations.md"
    assert target.is_file()
    if anchor:
        headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
        assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
