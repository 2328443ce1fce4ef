"""A Redis and a node that clients try to make grow, and what they hold."""

from __future__ import annotations

import re
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.processes.hub import API_KEY, ROOT, SECRET, HubProcess
from support.processes.redis import RedisProcess
from tidings.redis_client.keys import RedisKeys

BURST = 300
PER_MINUTE = 60
PUBLISH_BURST_BYTES = 2_097_152
PUBLISH_BYTES_PER_MINUTE = 2_097_152
_BASE = RedisKeys().base.decode()
# One key each, whatever clients do. Everything else expires.
LASTING = frozenset(
    {
        *("meta", "rules", "nodes", "nodestats", "revoked", "doubts"),
        *("presence", "presence:leases", "presence:namespaces", "presence:ended", "presence:large", "presence:changed"),
    }
)
# Users who publish: `attacks.ATTACKER`, `attacks.FLOODER`.
_PUBLISHERS = 2
# What a history takes in Redis beside its publications: the stream and the block that is not full (docs/operations.md).
_STREAM_BYTES = 5_120
_CONFIG = f"""
secret = "{SECRET}"
api_keys = ["{API_KEY}"]
new_channels_per_minute = {PER_MINUTE}
new_channels_burst = {BURST}
publish_bytes_per_minute = {PUBLISH_BYTES_PER_MINUTE}
publish_burst_bytes = {PUBLISH_BURST_BYTES}
inbound_rate_per_s = 100000
inbound_burst = 1000000
auth_failures_per_minute = 1000000
# The probe looks at every object. A report of that would read source files into a cache.
stall_warn_s = 600
# Attackers share a busy machine with the node.
connect_timeout_s = 120
[namespaces.chat]
subscribe = "public"
publish = "subscribers"
history = 100
history_ttl_s = HISTORY_TTL_S
[namespaces.room]
subscribe = "public"
publish = "subscribers"
history = 0
presence = true
[namespaces.orders]
"""
# Everything that ends, ends within seconds, except what has a fixed time.
_BRIEF = """
linger_s = 0.5
recovery_window_s = 1.0
presence_grace_s = 0.2
report_keep_s = 1.0
canary_interval_s = 0.5
position_check_s = 0.5
"""


@dataclass(slots=True)
class Figures:
    """What Redis and the node hold.

    `keys`: per kind their number; `longest_s`: per kind the longest life left.
    `largest`: the size of the largest containers, by their type and their first entry.
    `new_channels_max`: how many new channels the attacker may have used since the start.
    `history_bytes`: the memory of all histories; `history_bytes_max`: what users may have published since the start.
    """

    keys: Counter[str] = field(default_factory=Counter)
    longest_s: dict[str, int] = field(default_factory=dict)
    redis_bytes: int = 0
    entries: int = 0
    objects: int = 0
    types: dict[str, int] = field(default_factory=dict)
    largest: dict[str, int] = field(default_factory=dict)
    series: int = 0
    rss_bytes: int = 0
    log_lines: int = 0
    new_channels_max: int = 0
    history_bytes: int = 0
    history_bytes_max: int = 0

    def line(self) -> str:
        """One line for a person."""
        kinds = " ".join(f"{kind}={count}" for kind, count in sorted(self.keys.items()) if kind not in LASTING)
        return (
            f"redis {self.redis_bytes / 2**20:.1f} MiB, history {self.history_bytes / 2**20:.1f} MiB, "
            f"node {self.rss_bytes / 2**20:.1f} MiB, "
            f"{self.entries} entries, {self.objects} objects, {self.series} series, "
            f"{self.log_lines} log lines | {kinds}"
        )


class Target:
    """A Redis and a node. `brief`: what ends by time, ends within seconds."""

    def __init__(self, folder: Path, *, brief: bool) -> None:
        (folder / "redis").mkdir()
        (folder / "hub").mkdir()
        self.redis = RedisProcess(folder / "redis").start()
        config = _CONFIG.replace("HISTORY_TTL_S", "2" if brief else "300")
        extra = (_BRIEF if brief else "") + f'broker = "{self.redis.url}"\nwsgi = "growth.probe:app"\n'
        self.hub = HubProcess(folder / "hub", extra=extra, config=config)
        self.hub.environment["PYTHONPATH"] = f"{ROOT / 'hub'}:{ROOT / 'adapters'}:{ROOT / 'tests'}"
        self.hub.start()
        self._client: Any = self.redis.client()
        self._start_s = time.monotonic()

    def close(self) -> None:
        """End both."""
        self._client.close()
        self.hub.stop()
        self.redis.stop()

    def figures(self) -> Figures:
        """What both hold now."""
        figures = Figures()
        for name in self._client.scan_iter(count=1000):
            kind = kind_of(name.decode())
            life_s = self._client.ttl(name)
            if kind == "s":
                figures.history_bytes += self._client.memory_usage(name, samples=0) or 0
            if life_s != -2:
                figures.keys[kind] += 1
                longest_s = figures.longest_s.get(kind, 0)
                figures.longest_s[kind] = -1 if -1 in (life_s, longest_s) else max(life_s, longest_s)
        figures.redis_bytes = self._client.info("memory")["used_memory"]
        probed = self.hub.get("/growth-figures")[1]
        figures.entries, figures.objects, figures.types = probed["entries"], probed["objects"], probed["types"]
        figures.largest = {name: size for size, name in probed["largest"]}
        figures.series = len(re.findall(rb"^tidings_", self.hub.get("/metrics")[1], re.MULTILINE))
        statm = Path(f"/proc/{self.hub.pid}/statm").read_text(encoding="ascii")
        minutes = (time.monotonic() - self._start_s) / 60
        figures.new_channels_max = BURST + int(minutes * PER_MINUTE) + 1
        published_bytes_max = PUBLISH_BURST_BYTES + int(minutes * PUBLISH_BYTES_PER_MINUTE)
        figures.history_bytes_max = _PUBLISHERS * published_bytes_max + figures.keys["s"] * _STREAM_BYTES
        figures.log_lines = self.hub.log.read_bytes().count(b"\n")
        figures.rss_bytes = int(statm.split()[1]) * 4096
        return figures

    def lasting_members(self) -> int:
        """How many fields and members the lasting keys have together."""
        counts = {b"hash": self._client.hlen, b"set": self._client.scard, b"zset": self._client.zcard}
        names = [f"{_BASE}{kind}" for kind in LASTING if self._client.exists(f"{_BASE}{kind}")]
        return sum(int(counts[self._client.type(name)](name)) for name in names)


def kind_of(name: str) -> str:
    """The kind of a key: its name without what a client chose."""
    assert name.startswith(_BASE), name
    rest = name[len(_BASE) :]
    if rest.startswith("presence:"):
        return ":".join(rest.split(":")[:2])
    if rest.startswith("p:tidings:presence:"):
        return "p of presence"
    kind, _, channel = rest.partition(":")
    return "canary" if channel.startswith("canary:") else kind
