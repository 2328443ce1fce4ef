"""The table of cases: what each case measures, on which systems, and the goals for tidings."""

from __future__ import annotations

from bench.case import Case, Goal
from bench.channel_memory import CHANNEL_MEMORY, ChannelMemory
from bench.connections import CONNECT, LEAK, MEMORY, RECOVER, Connect, Idle, Leak, Recover
from bench.delivery import FLAT, PACED, mixed, personal, to_one
from bench.emitting import EMIT, Emit
from bench.growth import GROWTH, Growth
from bench.herd import HERD, Herd
from bench.inbox import INBOX, INBOX_LATENCY, InboxLatency, InboxStore
from bench.resubscribe import RESUBSCRIBE, Resubscribe
from bench.web_push import WEB_PUSH, WebPushLoad

_ALL = ("tidings", "node", "python-socketio", "floor")
_PEERS = ("tidings", "node", "python-socketio")
_NODE = ("tidings", "node")
_ALL_PCT = 100.0

# The peers' emitters do not wait for a response. An emitter that waits for each receipt would not be at full load.
_BATCHES = (
    "The emitter of tidings sends batches of 100 and waits for their receipts. The emitters of the peers do not wait "
    "for Redis."
)
_LOAD_FULL = (
    "the core of the load is saturated. The generator, Redis and the emitter use all of it, and the server is idle for "
    "a quarter of the time. The CPU per delivery is a tenth of python-socketio's. Compare p50 as well: the emitter of "
    "python-socketio does not wait, so its server buffers the whole burst and sends it to each client at the end."
)
_FRESH_SERVER = (
    "Each round starts a new server: the work that the peers still do for disconnected clients would use the same core."
)
_LOSSLESS = (
    Goal("every delivery arrives", "delivered_pct", _ALL_PCT),
    Goal("no duplicates, nothing out of order", "disorder", 0, at_most=True),
)

CASES = (
    Case(
        "fanout-flat",
        "one channel, 1,000 WebSocket subscribers, full load",
        "An emitter in another process publishes through Redis as fast as it can, one call per publication. The "
        "backlog is unlimited: the peers buffer all of it in memory and write it late (see p50).",
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
        "the same with at most 10 publications in flight",
        "The emitter publishes the next one when all clients have received one of the ten. This load is sustainable.",
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
        "one channel, 300 long-polling subscribers, full load",
        f"Like fanout-flat, over long polling, with at most 2,000 publications in flight. {_BATCHES} Each round starts "
        "a new server: python-socketio keeps the sessions of disconnected polling clients until their ping timeout, "
        "and writes to them.",
        ("tidings", "python-socketio"),
        to_one(300, {"tidings": 12_000, "python-socketio": 2000}, transport="polling", batch=100, window=2000),
        FLAT,
        (Goal("≥ 10 x python-socketio", "deliveries_per_s", 10, "python-socketio"), *_LOSSLESS),
        fresh=True,
        bottleneck=_LOAD_FULL,
    ),
    Case(
        "fanout-paced",
        "one channel, 1,000 WebSocket subscribers, 20 publications/s",
        "Latency is measured from the emit call to the client, for every delivery.",
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
        "2,000 users with a channel each, random user per publication, full load",
        _BATCHES,
        _PEERS,
        personal(2000, {"tidings": 30_000, "node": 30_000, "python-socketio": 5000}, batch=100),
        FLAT,
        (
            Goal("≥ 2 x node", "deliveries_per_s", 2, "node"),
            Goal("CPU per delivery ≤ node's", "server_us", 1, "node", at_most=True),
            *_LOSSLESS,
        ),
        bottleneck="the core of the load is saturated, the core of the server is half idle (server CPU). A "
        "publication costs Redis 22 µs, the emitter 17 µs and the generator 6 µs. A third of the time in Redis is "
        "XADD and two SETs, which store publications for recovery; the rest is the script itself. The emitters of the "
        "peers only publish. Half of a delivery's CPU time on the server is write(2), 13 µs, the same as on Node. A "
        "saturated core would deliver 40,000 per second, 1.6 times the rate of Node.",
    ),
    Case(
        "mixed",
        "200 channels of 50 subscribers, 1,000 clients, random channel per publication, full load",
        f"Each client is in ten channels. {_BATCHES}",
        _PEERS,
        mixed(1000, 200, 50, {"tidings": 20_000, "node": 2500, "python-socketio": 600}, batch=100),
        FLAT,
        (Goal("≥ 3 x node", "deliveries_per_s", 3, "node"), *_LOSSLESS),
    ),
    Case(
        "polling-flat",
        "one channel, 500 long-polling subscribers, full load",
        f"Like fanout-polling. {_BATCHES}",
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
        bottleneck=_LOAD_FULL,
    ),
    Case(
        "polling-paced",
        "one channel, 500 long-polling subscribers, 10 publications/s",
        "Latency is measured from the emit call to the client, for every delivery.",
        _NODE,
        to_one(500, dict.fromkeys(_NODE, 25), transport="polling", rate_per_s=10),
        PACED,
        (Goal("p99 ≤ node's", "p99_ms", 1, "node", at_most=True), *_LOSSLESS),
        fresh=True,
    ),
    Case(
        "memory",
        "5,000 idle authenticated WebSockets, each with its user channel and two more",
        "Growth of the server's memory, compared with a server that has had 200 clients. The kernel's memory is a "
        "separate column.",
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
        "Like memory. The connections then stay idle for 26 s (one round of pings), and the server's CPU is measured.",
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
        "Half use WebSocket, half use polling. Clients cut the connection, close it or send DISCONNECT. The figures "
        "are compared with the same server after its first 5,000 connects. Pings are sent every 3 s, so that the "
        "server soon detects cut connections.",
        ("tidings",),
        Leak(50_000),
        LEAK,
        (
            Goal("resident memory grows by ≤ 2 MiB (42 bytes each)", "rss_grown_kib", 2048, at_most=True),
            Goal("no more descriptors", "files_grown", 0, at_most=True),
            Goal("no more Redis subscriptions", "redis_grown", 0, at_most=True),
            Goal("no more greenlets", "greenlets_grown", 0, at_most=True),
            Goal("no session left", "sessions_left", 0, at_most=True),
        ),
        fresh=True,
        rounds=1,
    ),
    Case(
        "connect-websocket",
        "2,000 clients connect over WebSocket with a token and two channels",
        f"As fast as possible; 500 clients for python-socketio. {_FRESH_SERVER}",
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
        f"As fast as possible; 300 clients for python-socketio. A connect is three requests. {_FRESH_SERVER}",
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
        "2,000 clients reconnect at the same time, 100 missed publications each",
        "The peers cannot recover missed publications through Redis pub/sub.",
        ("tidings",),
        Recover(2000, 100),
        RECOVER,
        (*_LOSSLESS, Goal("all recovered", "unrecovered", 0, at_most=True)),
    ),
    Case(
        "herd",
        "5,000 clients return at once, 100 missed publications each, while other clients are served",
        "Each client has the channel of its user and two shared ones. 50 other clients receive 50 publications a "
        "second meanwhile. Memory is the largest resident memory of the server minus the one before the return.",
        ("tidings",),
        Herd(5000, 100),
        HERD,
        (
            *_LOSSLESS,
            Goal("all recovered", "unrecovered", 0, at_most=True),
            Goal("memory grows by ≤ 64 MiB", "grown_mib", 64, at_most=True),
            Goal("less than one script per 10 clients", "redis_scripts", 500, at_most=True),
        ),
        fresh=True,
    ),
    Case(
        "resubscribe",
        "the connection to Redis breaks on a node with 1,000, 10,000 and 100,000 channels",
        "100 channels per client, 500 publications per second, nine of ten of them in 100 busy channels. Redis closes "
        "the subscriber connection of the node. Latency is that of the publications of the next four seconds. The "
        "peers lose what is published until they have subscribed again.",
        ("tidings",),
        Resubscribe(),
        RESUBSCRIBE,
        (
            Goal("every delivery arrives", "delivered_pct", _ALL_PCT),
            Goal("p50 at 100,000 channels ≤ 100 ms", "p50_ms_100000", 100, at_most=True),
            Goal("all of 100,000 channels repaired in ≤ 10 s", "repaired_s_100000", 10, at_most=True),
        ),
        fresh=True,
        rounds=3,
    ),
    Case(
        "emit",
        "one emitter, directly to Redis and through the HTTP API",
        "One call after the other, each waits for its receipt; then batches of 100. Emitter and Redis share a core.",
        ("tidings",),
        Emit(),
        EMIT,
        (Goal("batch ≥ 0.7 x a bare redis-py pipeline of the same script", "batch_ratio", 0.7),),
    ),
    Case(
        "inbox",
        "notifications stored in inboxes, in batches of 500",
        "One process stores notifications for 5,000 users, on the core of the load. It takes turns with a bare INSERT "
        "of the same rows in the same tables, in one transaction per batch. One INSERT has the notifications alone, "
        "another one also their events. Each commit waits for the disk.",
        ("tidings",),
        InboxStore(),
        INBOX,
        (
            Goal("SQLite: ≥ 0.5 x a bare INSERT of the same rows", "sqlite_ratio", 0.5),
            Goal("PostgreSQL: ≥ 0.5 x a bare INSERT of the same rows", "postgresql_ratio", 0.5),
        ),
        rounds=3,
    ),
    Case(
        "inbox-latency",
        "200 notifications/s to 50 users, and the same number of publications",
        "`notify` and `emit` take turns, each over Redis and to the same clients. A notification is stored in "
        "PostgreSQL, whose commits wait for the disk, before its event is published. The hub, the service and "
        "PostgreSQL share the core of the server; Redis, the emitters and the clients share the other one.",
        ("tidings",),
        InboxLatency(),
        INBOX_LATENCY,
        (
            Goal("p50 of notify ≤ 3 x emit's", "p50_ratio", 3, at_most=True),
            Goal("p99 of notify < 50 ms", "notify_p99_ms", 50, at_most=True),
        ),
        bottleneck="one thread stores a notification and publishes its event, in 2.3 ms. The statement takes 1.1 ms, "
        "of which 0.4 ms is the flush to the disk. The publication takes 0.4 ms, and Python 0.8 ms. The thread removes "
        "the notification from its stream with the next read, and many events at once from the outbox. The service and "
        "PostgreSQL are on the core that also runs the hub, so what they take the hub has to wait for.",
        rounds=3,
    ),
    Case(
        "web-push",
        "100,000 push subscriptions are due",
        "One sender encrypts a message for each and sends it over TLS to four push services, which answer after 50 ms. "
        "Memory is the largest resident memory of the sender minus the one after its first 2,000 pushes.",
        ("tidings",),
        WebPushLoad(100_000),
        WEB_PUSH,
        (
            Goal("≥ 1,000 pushes/s", "pushes_per_s", 1000),
            Goal("every push is accepted", "sent_pct", _ALL_PCT),
            Goal("memory grows by ≤ 32 MiB", "grown_mib", 32, at_most=True),
        ),
        rounds=3,
    ),
    Case(
        "channel-memory",
        "memory of Redis per channel",
        "Growth of Redis' `used_memory` per channel: its history and its pointer, without the ids of publications. A "
        "channel in which nothing was published costs nothing.",
        ("tidings",),
        ChannelMemory(2000),
        CHANNEL_MEMORY,
        (Goal("a channel with one publication of 200 bytes ≤ 1,000 bytes", "bytes_1_200", 1000, at_most=True),),
        rounds=3,
    ),
    Case(
        "growth",
        "fan-out and idle memory at 1,000 to 16,000 clients",
        "Server CPU per delivery in one channel, and memory per idle connection with three channels. One publication "
        "is in flight, so the server cannot combine several into one write. The floor is a C program that writes "
        "prepared bytes to the same number of sockets.",
        ("tidings", "floor"),
        Growth(),
        GROWTH,
        (
            Goal("cost per delivery flat (± 20 %)", "us_drift_pct", 20, at_most=True),
            Goal("cost per delivery no less flat than the floor's", "us_drift_pct", 1, "floor", at_most=True),
            Goal("memory per client flat (± 20 %)", "bytes_drift_pct", 20, at_most=True),
        ),
        bottleneck="the cost of the floor grows in the same way. With thousands of sockets more, the kernel's "
        "structures do not fit into the processor's caches. Compared with the floor, a delivery costs the same at "
        "every size.",
        fresh=True,
        rounds=1,
    ),
)


def chosen(name: str) -> list[Case]:
    """The cases whose name is `name` or begins with `name-`; all cases for an empty name.

    Raises:
        ValueError: no case has this name.
    """
    cases = [case for case in CASES if not name or case.name == name or case.name.startswith(name + "-")]
    if not cases:
        raise ValueError(f"no case {name!r}; there are: {', '.join(case.name for case in CASES)}")
    return cases
