"""The table of cases: what is measured on what, and what tidings must reach."""

from __future__ import annotations

from bench.case import Case, Goal
from bench.delivery import FLAT, PACED, mixed, personal, to_one
from bench.emitting import EMIT, Emit
from bench.growth import GROWTH, Growth
from bench.standing import CONNECT, LEAK, MEMORY, RECOVER, Connect, Idle, Leak, Recover

_ALL = ("tidings", "node", "python-socketio", "floor")
_PEERS = ("tidings", "node", "python-socketio")
_NODE = ("tidings", "node")
_WHOLE = 100.0

# An emitter that waits for each receipt is not flat out beside emitters that wait for nothing.
_BATCHES = (
    "tidings' emitter sends batches of 100, each with its receipts; the others' emitters do not wait for Redis at all."
)
_LOAD_FULL = (
    "the load's core is full: generator, Redis and emitter take all of it, and the server waits for a quarter of the "
    "time. See the CPU per delivery, a tenth of python-socketio's; and p50: its emitter waits for nothing, its server "
    "keeps the whole burst in memory and answers each client with all of it at the end."
)
_ALONE = "A fresh server per round: what the others still do for clients that left would take a part of the same core."
_LOSSLESS = (
    Goal("every delivery arrives", "delivered_pct", _WHOLE),
    Goal("none twice or out of order", "disorder", 0, at_most=True),
)

CASES = (
    Case(
        "fanout-flat",
        "one channel, 1,000 WebSocket subscribers, flat out",
        "An emitter in another process publishes through Redis as fast as it can, one call each, without end "
        "of a backlog: the peers take it all into memory and write it late (see p50).",
        _ALL,
        to_one(1000, {"tidings": 3000, "node": 200, "python-socketio": 200, "floor": 200}),
        FLAT,
        (
            Goal("≥ 10 x python-socketio (issue 2)", "deliveries_per_s", 10, "python-socketio"),
            Goal("≥ 15 x python-socketio", "deliveries_per_s", 15, "python-socketio"),
            Goal("≥ 4 x node", "deliveries_per_s", 4, "node"),
            Goal("≥ 2 x the floor", "deliveries_per_s", 2, "floor"),
            *_LOSSLESS,
        ),
    ),
    Case(
        "fanout-window",
        "the same with at most 10 publications on the way",
        "The emitter publishes the next one when all clients have one of the ten: load that a server can sustain.",
        _PEERS,
        to_one(1000, {"tidings": 1000, "node": 150, "python-socketio": 100}, window=10),
        FLAT,
        (
            Goal("≥ 10 x python-socketio", "deliveries_per_s", 10, "python-socketio"),
            Goal("≥ 4 x node", "deliveries_per_s", 4, "node"),
            *_LOSSLESS,
        ),
    ),
    Case(
        "fanout-polling",
        "one channel, 300 long-polling subscribers, flat out",
        f"As fanout-flat, over long polling, with at most 2,000 on the way. {_BATCHES} A fresh server per round: "
        "python-socketio keeps the sessions "
        "of polling clients that left until their ping timeout, and writes to them.",
        ("tidings", "python-socketio"),
        to_one(300, {"tidings": 12_000, "python-socketio": 2000}, transport="polling", batch=100, window=2000),
        FLAT,
        (Goal("≥ 10 x python-socketio", "deliveries_per_s", 10, "python-socketio"), *_LOSSLESS),
        fresh=True,
        limit=_LOAD_FULL,
    ),
    Case(
        "fanout-paced",
        "one channel, 1,000 WebSocket subscribers, 20 publications/s",
        "Latency is from the emit call to the client, every delivery timed.",
        _PEERS,
        to_one(1000, dict.fromkeys(_PEERS, 50), rate_per_s=20),
        PACED,
        (
            Goal("p50 ≤ node's", "p50_ms", 1, "node", at_most=True),
            Goal("p99 ≤ node's", "p99_ms", 1, "node", at_most=True),
            Goal("CPU per delivery ≤ 0.6 x node's", "server_us", 0.6, "node", at_most=True),
            *_LOSSLESS,
        ),
    ),
    Case(
        "personal",
        "2,000 users with a channel each, random user per publication, flat out",
        _BATCHES,
        _PEERS,
        personal(2000, {"tidings": 30_000, "node": 30_000, "python-socketio": 5000}, batch=100),
        FLAT,
        (
            Goal("≥ 2 x node", "deliveries_per_s", 2, "node"),
            Goal("CPU per delivery ≤ node's", "server_us", 1, "node", at_most=True),
            *_LOSSLESS,
        ),
        limit="the load's core is full, the server's is half idle (server CPU). Per publication Redis takes 22 µs (a "
        "third of it in XADD and two SETs, which keep what a client may have missed; the rest is the script itself), "
        "the emitter 17 µs and the generator 6 µs; the peers' emitters only publish. On the server half of a delivery "
        "is its write(2), 13 µs, as for Node: a full core would make 40,000 a second, 1.6 times Node's.",
    ),
    Case(
        "mixed",
        "200 channels of 50 subscribers, 1,000 clients, random channel per publication, flat out",
        f"Each client is in ten channels. {_BATCHES}",
        _PEERS,
        mixed(1000, 200, 50, {"tidings": 20_000, "node": 2500, "python-socketio": 600}, batch=100),
        FLAT,
        (Goal("≥ 3 x node", "deliveries_per_s", 3, "node"), *_LOSSLESS),
    ),
    Case(
        "polling-flat",
        "one channel, 500 long-polling subscribers, flat out",
        f"As fanout-polling. {_BATCHES}",
        _PEERS,
        to_one(
            500,
            {"tidings": 8000, "node": 2000, "python-socketio": 2000},
            transport="polling",
            batch=100,
            window=2000,
        ),
        FLAT,
        (
            Goal("≥ 3 x node", "deliveries_per_s", 3, "node"),
            Goal("≥ 10 x python-socketio", "deliveries_per_s", 10, "python-socketio"),
            *_LOSSLESS,
        ),
        fresh=True,
        limit=_LOAD_FULL,
    ),
    Case(
        "polling-paced",
        "one channel, 500 long-polling subscribers, 10 publications/s",
        "Latency is from the emit call to the client, every delivery timed.",
        _NODE,
        to_one(500, dict.fromkeys(_NODE, 25), transport="polling", rate_per_s=10),
        PACED,
        (Goal("p99 ≤ node's", "p99_ms", 1, "node", at_most=True), *_LOSSLESS),
        fresh=True,
    ),
    Case(
        "memory",
        "5,000 idle authenticated WebSockets, each with its user channel and two more",
        "Growth of the server's memory over a server that has had 200 clients. Socket buffers of the kernel apart.",
        _PEERS,
        Idle(5000),
        MEMORY,
        (Goal("resident ≤ 4,096 bytes (issue 2)", "rss_bytes", 4096, at_most=True),),
        fresh=True,
        rounds=1,
    ),
    Case(
        "idle",
        "10,000 idle authenticated WebSockets with 3 channels",
        "As memory; then held for 26 s (one round of pings), and the server's CPU counted.",
        _NODE,
        Idle(10_000, hold_s=26),
        MEMORY,
        (
            Goal("resident ≤ 4,096 bytes", "rss_bytes", 4096, at_most=True),
            Goal("≤ 1/4 of node's", "rss_bytes", 0.25, "node", at_most=True),
            Goal("CPU of heartbeats ≤ node's", "heartbeat_us", 1, "node", at_most=True),
        ),
        fresh=True,
        rounds=1,
    ),
    Case(
        "leak",
        "50,000 connects and disconnects",
        "Half over WebSocket, half over polling; clients leave without a word, with a close and with a DISCONNECT. "
        "Compared with the same server after its first 5,000. Pings every 3 s, so that it is seen soon who has gone.",
        ("tidings",),
        Leak(50_000),
        LEAK,
        (
            Goal("resident memory where it was (≤ 2 MiB, 42 bytes each)", "rss_grown_kib", 2048, at_most=True),
            Goal("descriptors where they were", "files_grown", 0, at_most=True),
            Goal("Redis subscriptions where they were", "redis_grown", 0, at_most=True),
            Goal("greenlets where they were", "greenlets_grown", 0, at_most=True),
            Goal("no session left", "sessions_left", 0, at_most=True),
        ),
        fresh=True,
        rounds=1,
    ),
    Case(
        "connect-websocket",
        "2,000 clients connect over WebSocket with a token and two channels",
        f"As fast as it goes; 500 of python-socketio. {_ALONE}",
        _PEERS,
        Connect({"tidings": 2000, "node": 2000, "python-socketio": 500}, "websocket"),
        CONNECT,
        (
            Goal("≥ 2 x node", "steady_per_s", 2, "node"),
            Goal("≥ 2 x node, after a cut", "storm_per_s", 2, "node"),
        ),
        fresh=True,
    ),
    Case(
        "connect-polling",
        "1,000 clients connect over long polling with a token and two channels",
        f"As fast as it goes; 300 of python-socketio. Three requests each. {_ALONE}",
        _PEERS,
        Connect({"tidings": 1000, "node": 1000, "python-socketio": 300}, "polling"),
        CONNECT,
        (
            Goal("≥ 2 x node", "steady_per_s", 2, "node"),
            Goal("≥ 2 x node, after a cut", "storm_per_s", 2, "node"),
        ),
        fresh=True,
    ),
    Case(
        "recover",
        "2,000 clients come back at once, 100 missed publications each",
        "The peers cannot do this through Redis pub/sub.",
        ("tidings",),
        Recover(2000, 100),
        RECOVER,
        (*_LOSSLESS, Goal("all recovered", "unrecovered", 0, at_most=True)),
    ),
    Case(
        "emit",
        "one emitter, straight into Redis and through the HTTP API",
        "One after the other, each waiting for its receipt, and in batches of 100. Emitter and Redis share a core.",
        ("tidings",),
        Emit(),
        EMIT,
        (Goal("batch ≥ 0.7 x of a bare redis-py pipeline of the same script", "batch_ratio", 0.7),),
    ),
    Case(
        "growth",
        "fan-out and idle memory at 1,000 to 16,000 clients",
        "Server CPU per delivery in one channel with one publication on the way, so that nothing is joined, and memory "
        "per idle connection with three channels. The floor is a C program that writes ready bytes to as many sockets.",
        ("tidings", "floor"),
        Growth(),
        GROWTH,
        (
            Goal("cost per delivery flat (± 20 %)", "us_drift_pct", 20, at_most=True),
            Goal("cost per delivery no less flat than the floor's", "us_drift_pct", 1, "floor", at_most=True),
            Goal("memory per client flat (± 20 %)", "bytes_drift_pct", 20, at_most=True),
        ),
        limit="the floor's cost grows in the same way: what thousands of sockets more cost is the kernel's, whose "
        "structures do not stay in the processor's caches. Beside the floor a delivery costs the same at every size.",
        fresh=True,
        rounds=1,
    ),
)


def chosen(name: str) -> list[Case]:
    """The cases whose name is `name` or begins with `name-`; all for an empty name.

    Raises:
        ValueError: there is none.
    """
    found = [case for case in CASES if not name or case.name == name or case.name.startswith(name + "-")]
    if not found:
        raise ValueError(f"no case {name!r}; there are: {', '.join(case.name for case in CASES)}")
    return found
