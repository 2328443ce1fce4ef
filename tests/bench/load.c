/*
 * The load generator of tests/bench: opens many Socket.IO clients, counts their deliveries and
 * measures the time. It has one thread, one epoll and no allocation per delivery, so that the
 * server under test is the limit and not this program. It reports its own CPU time.
 *
 * It implements Engine.IO v4 and Socket.IO v5 like a stock client, over WebSocket or long
 * polling. It reads commands from stdin and responds to each with one line of JSON:
 *
 *   connect EXPECTED DEADLINE_S CONCURRENCY   open all clients; ends when all are ready and
 *                                             EXPECTED deliveries (0: none) have arrived
 *   count EXPECTED DEADLINE_S STEP FIFO       responds {"phase":"counting"}, then counts until
 *                                             EXPECTED deliveries or the deadline; with STEP > 0
 *                                             writes one byte to FIFO per STEP deliveries, so
 *                                             that an emitter can keep a window
 *   hold SECONDS                              stays connected and answers pings
 *   cut                                       closes every socket without a close packet
 *   churn TIMES DEADLINE_S CONCURRENCY        connects, becomes ready and disconnects, TIMES times
 *   quit
 *
 * A client is ready when it has received the event named by --ready; without --ready, when its
 * CONNECT was accepted. A delivery is an event whose data contains the marker `~T`, 16 hex digits
 * (CLOCK_MONOTONIC in ns, read by the emitter on this machine) and 8 hex digits (its number). The
 * numbers rise. A number that is not greater than the client's previous one is counted as
 * `disorder`: a duplicate or a publication out of order.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define READ_BYTES (256 * 1024)
#define CARRY_STEP (64 * 1024)
#define EVENTS 1024
#define MARKER "~T"
#define MARKER_BYTES 26 /* the marker, 16 digits of time, 8 of number */
#define SEPARATOR '\x1e'
#define SUB_BITS 6 /* histogram: 64 buckets per power of two, so 1.6 % wide */
#define BUCKETS (64 << SUB_BITS)
#define LINGER_NS 50000000ull /* wait after the last expected delivery, to catch duplicates */
#define NO_NUMBER (-1)

enum stage { AWAY, DIALLING, OPENING, JOINING, READY, LEAVING };
enum phase { IDLE, CONNECT, COUNT, HOLD, CHURN };

struct client {
    int fd;
    enum stage stage;
    bool dialling;     /* the TCP connection is not established yet */
    bool send_auth;    /* polling: the next request is the CONNECT packet */
    bool send_pong;    /* polling: the next request is a pong */
    bool send_close;   /* polling: the next request is the close packet */
    bool once;         /* polling: the server closes this HTTP connection */
    char sid[72];
    char cursor[72];
    int64_t number;    /* of the last delivery, or NO_NUMBER */
    uint64_t deliveries;
    uint64_t began_ns;
    char *carry;
    size_t carry_bytes, carry_room;
};

struct histogram {
    uint64_t buckets[BUCKETS];
    uint64_t count, max;
};

static struct {
    struct sockaddr_in server;
    int clients, sources, sample;
    bool polling, keep_cursor;
    char ready[64];
} options = {.clients = 1, .sources = 1, .sample = 1};

static struct client *clients;
static char **auth;
static int auth_lines;
static int poller;
static char buffer[READ_BYTES];

static struct {
    enum phase kind;
    uint64_t began_ns, deadline_ns, done_ns;
    uint64_t expected, deliveries, disorder, bytes, frames, polls;
    uint64_t first_ns, last_ns, emitted_ns;
    double cpu_s;
    uint64_t step, unsampled;
    int steps_fd;
    int concurrency, in_flight, next, ready, failed, lost, unrecovered;
    long cycles_wanted, cycles_begun, cycles_done;
    char error[160];
    struct histogram latency, connecting;
} run;

static uint64_t now_ns(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (uint64_t)at.tv_sec * 1000000000ull + (uint64_t)at.tv_nsec;
}

static double cpu_s(void)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec)
        + (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static void die(const char *what)
{
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* ---- histogram ---- */

static void record(struct histogram *h, uint64_t value)
{
    int top = 63 - __builtin_clzll(value | 1);
    size_t index = top <= SUB_BITS
        ? (size_t)value
        : ((size_t)(top - SUB_BITS) << SUB_BITS) + (size_t)(value >> (top - SUB_BITS));
    h->buckets[index < BUCKETS ? index : BUCKETS - 1]++;
    h->count++;
    if (value > h->max)
        h->max = value;
}

static double quantile_us(const struct histogram *h, double share)
{
    uint64_t wanted = (uint64_t)(share * (double)h->count), seen = 0;
    for (size_t i = 0; i < BUCKETS; i++) {
        seen += h->buckets[i];
        if (seen > wanted) {
            if (i < (2u << SUB_BITS))
                return (double)i / 1e3;
            size_t shift = (i >> SUB_BITS) - 1;
            return (double)((uint64_t)((i & ((1u << SUB_BITS) - 1)) | (1u << SUB_BITS)) << shift) / 1e3;
        }
    }
    return (double)h->max / 1e3;
}

static void print_histogram(const char *name, const struct histogram *h)
{
    printf(",\"%s\":{\"count\":%llu,\"p50\":%.1f,\"p95\":%.1f,\"p99\":%.1f,\"max\":%.1f}", name,
        (unsigned long long)h->count, quantile_us(h, 0.5), quantile_us(h, 0.95), quantile_us(h, 0.99),
        (double)h->max / 1e3);
}

/* ---- sending ---- */

static void lose(struct client *c, const char *why);

static void keep_error(const char *text, size_t bytes)
{
    if (run.error[0])
        return;
    size_t kept = 0;
    for (size_t i = 0; i < bytes && kept < sizeof run.error - 1; i++) {
        unsigned char sign = (unsigned char)text[i];
        run.error[kept++] = sign < 0x20 || sign > 0x7e || sign == '"' || sign == '\\' ? '\'' : (char)sign;
    }
    run.error[kept] = 0;
}

/* Clients send little: a full socket buffer means that the server does not read. */
static void send_all(struct client *c, const char *bytes, size_t count)
{
    if (send(c->fd, bytes, count, MSG_NOSIGNAL) != (ssize_t)count)
        lose(c, "could not send");
}

/* RFC 6455 section 5.3: a client masks its frames. */
static void send_frame(struct client *c, int opcode, const char *payload, size_t count)
{
    static const unsigned char mask[4] = {0x5a, 0xc3, 0x17, 0x8e};
    char frame[8192];
    size_t at = 0;
    if (count > sizeof frame - 16) {
        lose(c, "auth line too long");
        return;
    }
    frame[at++] = (char)(0x80 | opcode);
    if (count < 126) {
        frame[at++] = (char)(0x80 | count);
    } else {
        frame[at++] = (char)(0x80 | 126);
        frame[at++] = (char)(count >> 8);
        frame[at++] = (char)(count & 0xff);
    }
    memcpy(frame + at, mask, 4);
    at += 4;
    for (size_t i = 0; i < count; i++)
        frame[at++] = (char)(payload[i] ^ mask[i & 3]);
    send_all(c, frame, at);
}

/* The Socket.IO CONNECT packet with the client's line of the auth file, and its cursor with --keep-cursor. */
static size_t connect_packet(struct client *c, char *into, size_t room)
{
    const char *line = auth_lines ? auth[(c - clients) % auth_lines] : "";
    size_t bytes = strlen(line);
    int made = options.keep_cursor && c->cursor[0] && bytes > 2
        ? snprintf(into, room, "40%.*s,\"since\":\"%s\"}", (int)bytes - 1, line, c->cursor)
        : snprintf(into, room, "40%s", line);
    return made < 0 || (size_t)made >= room ? 0 : (size_t)made;
}

static void http(struct client *c, const char *method, const char *body, size_t body_bytes)
{
    static unsigned turn; /* like stock clients: a different `t` in every request, against caches */
    char request[8192];
    int made = snprintf(request, sizeof request,
        "%s /socket.io/?EIO=4&transport=polling&t=%08x%s%s HTTP/1.1\r\nHost: localhost\r\n", method, ++turn,
        c->sid[0] ? "&sid=" : "", c->sid);
    made += body == NULL
        ? snprintf(request + made, sizeof request - (size_t)made, "\r\n")
        : snprintf(request + made, sizeof request - (size_t)made,
              "Content-Type: text/plain;charset=UTF-8\r\nContent-Length: %zu\r\n\r\n%.*s", body_bytes,
              (int)body_bytes, body);
    send_all(c, request, (size_t)made);
}

static void next_request(struct client *c)
{
    char packet[6144];
    if (c->send_auth) {
        c->send_auth = false;
        http(c, "POST", packet, connect_packet(c, packet, sizeof packet));
    } else if (c->send_pong) {
        c->send_pong = false;
        http(c, "POST", "3", 1);
    } else if (c->send_close) {
        c->send_close = false;
        http(c, "POST", "1", 1);
    } else {
        run.polls++;
        http(c, "GET", NULL, 0);
    }
}

static void upgrade(struct client *c)
{
    static const char request[] =
        "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\n"
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    send_all(c, request, sizeof request - 1);
}

/* ---- connecting and disconnecting ---- */

static void shut(struct client *c)
{
    if (c->fd >= 0)
        close(c->fd); /* also removes it from the epoll */
    c->fd = -1;
    c->carry_bytes = 0;
}

static void lose(struct client *c, const char *why)
{
    if (c->stage == AWAY)
        return;
    if (c->stage == READY) {
        run.ready--;
        run.lost++;
    } else {
        run.in_flight--;
        if (c->stage == LEAVING)
            run.cycles_done++;
        else
            run.failed++;
    }
    if (c->stage != LEAVING)
        keep_error(why, strlen(why));
    shut(c);
    c->stage = AWAY;
}

static void dial(struct client *c)
{
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0)
        die("socket (is `ulimit -n` large enough?)");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (options.sources > 1) {
        /* One address has about 28,000 ports; all of 127.0.0.0/8 is the loopback. */
        struct sockaddr_in from = {.sin_family = AF_INET};
        from.sin_addr.s_addr = htonl(0x7f000002u + (uint32_t)((c - clients) % options.sources));
        setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        if (bind(c->fd, (struct sockaddr *)&from, sizeof from))
            die("bind");
    }
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
    c->dialling = true;
    if (connect(c->fd, (struct sockaddr *)&options.server, sizeof options.server) && errno != EINPROGRESS) {
        lose(c, strerror(errno));
        return;
    }
    if (epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event))
        die("epoll_ctl");
}

static void begin(struct client *c)
{
    c->stage = DIALLING;
    c->sid[0] = 0;
    c->send_auth = c->send_pong = c->send_close = c->once = false;
    c->number = NO_NUMBER;
    c->began_ns = now_ns();
    run.in_flight++;
    dial(c);
}

static void dialled(struct client *c)
{
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) {
        lose(c, strerror(error));
        return;
    }
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &event);
    c->dialling = false;
    if (c->stage == DIALLING)
        c->stage = OPENING;
    if (options.polling)
        next_request(c);
    else
        upgrade(c);
}

/* In churn, clients take turns: cut the connection, send a WebSocket or Engine.IO close, send DISCONNECT. */
static void leave(struct client *c, long cycle)
{
    run.ready--;
    c->stage = LEAVING;
    if (options.polling) {
        if (cycle % 2) {
            c->send_close = true; /* sent instead of the next GET */
            return;
        }
    } else if (cycle % 3 == 1) {
        send_frame(c, 8, "\x03\xe8", 2);
    } else if (cycle % 3 == 2) {
        send_frame(c, 1, "41", 2);
    }
    if (c->stage == LEAVING) {
        shut(c);
        c->stage = AWAY;
        run.in_flight--;
        run.cycles_done++;
    }
}

static void became_ready(struct client *c, const char *packet, size_t bytes)
{
    static const char name[] = "\"cursor\":\"";
    const char *found = options.keep_cursor ? memmem(packet, bytes, name, sizeof name - 1) : NULL;
    if (found) {
        const char *from = found + sizeof name - 1;
        const char *end = memchr(from, '"', (size_t)(packet + bytes - from));
        if (end && (size_t)(end - from) < sizeof c->cursor) {
            memcpy(c->cursor, from, (size_t)(end - from));
            c->cursor[end - from] = 0;
        }
    }
    if (memmem(packet, bytes, "\"recovered\":false", 17))
        run.unrecovered++;
    if (c->stage == READY)
        return;
    c->stage = READY;
    run.ready++;
    record(&run.connecting, now_ns() - c->began_ns);
    if (run.kind == CHURN)
        leave(c, run.cycles_done);
    else
        run.in_flight--;
}

/* ---- receiving ---- */

/* Parse eight lower-case hex digits in one step: nibbles, then pairs, then groups of four. */
static uint64_t eight_digits(const char *from)
{
    uint64_t v;
    memcpy(&v, from, 8);
    v = (v & 0x0f0f0f0f0f0f0f0f) + 9 * (v >> 6 & 0x0101010101010101);
    v = (v << 4 | v >> 8) & 0x00ff00ff00ff00ff;
    v = (v << 8 | v >> 16) & 0x0000ffff0000ffff;
    return (v << 16 | v >> 32) & 0xffffffff;
}

static void delivered(struct client *c, const char *marker, uint64_t at_ns)
{
    uint64_t sent_ns = eight_digits(marker + 2) << 32 | eight_digits(marker + 10);
    int64_t number = (int64_t)eight_digits(marker + 18);
    if (number <= c->number)
        run.disorder++;
    c->number = number;
    c->deliveries++;
    run.deliveries++;
    if (sent_ns < run.emitted_ns)
        run.emitted_ns = sent_ns;
    if (!run.first_ns)
        run.first_ns = at_ns;
    run.last_ns = at_ns;
    if (run.step && run.deliveries % run.step == 0 && write(run.steps_fd, "+", 1) != 1)
        die("the emitter does not read the FIFO");
    if (!--run.unsampled) {
        run.unsampled = (uint64_t)options.sample;
        record(&run.latency, at_ns > sent_ns ? at_ns - sent_ns : 0);
    }
}

static void keep_cursor(struct client *c, const char *packet, size_t bytes)
{
    const char *end = memrchr(packet, '"', bytes);
    const char *from = end ? memrchr(packet, '"', (size_t)(end - packet)) : NULL;
    if (from && (size_t)(end - from) <= sizeof c->cursor) {
        memcpy(c->cursor, from + 1, (size_t)(end - from - 1));
        c->cursor[end - from - 1] = 0;
    }
}

static void event_packet(struct client *c, const char *packet, size_t bytes, uint64_t at_ns)
{
    static size_t hint; /* publications of one run have the same layout: try the last offset of the marker */
    if (bytes < hint + MARKER_BYTES || memcmp(packet + hint, MARKER, 2)) {
        const char *found = memmem(packet, bytes, MARKER, 2);
        if (!found || (size_t)(packet + bytes - found) < MARKER_BYTES) {
            size_t name = strlen(options.ready);
            if (name && bytes > name + 4 && !memcmp(packet, "42[\"", 4) && !memcmp(packet + 4, options.ready, name))
                became_ready(c, packet, bytes);
            return;
        }
        hint = (size_t)(found - packet);
    }
    delivered(c, packet + hint, at_ns);
    if (options.keep_cursor)
        keep_cursor(c, packet, bytes);
}

/* Engine.IO's OPEN: a WebSocket client sends CONNECT immediately, a polling client with its next request. */
static void opened(struct client *c, const char *packet, size_t bytes)
{
    c->stage = JOINING;
    if (!options.polling) {
        char connect[6144];
        send_frame(c, 1, connect, connect_packet(c, connect, sizeof connect));
        return;
    }
    const char *from = memmem(packet, bytes, "\"sid\":\"", 7);
    const char *end = from ? memchr(from + 7, '"', (size_t)(packet + bytes - from - 7)) : NULL;
    if (!end || (size_t)(end - from - 7) >= sizeof c->sid) {
        lose(c, "no sid in the open packet");
        return;
    }
    memcpy(c->sid, from + 7, (size_t)(end - from - 7));
    c->sid[end - from - 7] = 0;
    c->send_auth = true;
}

static void packet(struct client *c, const char *bytes, size_t count, uint64_t at_ns)
{
    run.frames++;
    if (count == 0)
        return;
    if (bytes[0] == '4' && count > 1) {
        if (bytes[1] == '2') {
            event_packet(c, bytes, count, at_ns);
        } else if (bytes[1] == '0') {
            if (!options.ready[0])
                became_ready(c, bytes, count);
        } else if (bytes[1] == '4' || bytes[1] == '1') {
            keep_error(bytes, count);
            lose(c, "rejected");
        }
    } else if (bytes[0] == '2') {
        if (options.polling)
            c->send_pong = true;
        else
            send_frame(c, 1, "3", 1);
    } else if (bytes[0] == '0') {
        opened(c, bytes, count);
    } else if (bytes[0] == '1') {
        lose(c, "closed by the server");
    }
}

/* Read one frame at `at`; return its size, or 0 if it is incomplete. */
static size_t frame(struct client *c, const char *at, size_t left, uint64_t at_ns)
{
    if (left < 2)
        return 0;
    size_t head = 2, body = (unsigned char)at[1];
    if (body == 126) {
        if (left < 4)
            return 0;
        body = (size_t)(unsigned char)at[2] << 8 | (unsigned char)at[3];
        head = 4;
    } else if (body == 127) {
        if (left < 10)
            return 0;
        body = 0;
        for (int i = 2; i < 10; i++)
            body = body << 8 | (unsigned char)at[i];
        head = 10;
    }
    if (left - head < body)
        return 0;
    switch (at[0] & 0x0f) {
    case 1:
        packet(c, at + head, body, at_ns);
        break;
    case 8:
        keep_error(at + head + (body > 2 ? 2 : body), body > 2 ? body - 2 : 0);
        lose(c, "close frame");
        break;
    case 9:
        send_frame(c, 10, at + head, body);
        break;
    default:
        break;
    }
    return head + body;
}

static const char *header(const char *head, size_t bytes, const char *name)
{
    size_t size = strlen(name);
    for (const char *line = memchr(head, '\n', bytes); line; line = memchr(line, '\n', (size_t)(head + bytes - line))) {
        line++;
        if ((size_t)(head + bytes - line) <= size)
            return NULL;
        if (!strncasecmp(line, name, size) && line[size] == ':')
            return line + size + 1 + strspn(line + size + 1, " ");
    }
    return NULL;
}

/* Read one HTTP response to a poll or a POST; return its size, or 0 if it is incomplete. */
static size_t response(struct client *c, const char *at, size_t left, uint64_t at_ns)
{
    const char *end = memmem(at, left, "\r\n\r\n", 4);
    if (!end)
        return 0;
    size_t head = (size_t)(end - at) + 4;
    const char *length = header(at, head, "content-length");
    const char *connection = header(at, head, "connection");
    size_t body = length ? strtoul(length, NULL, 10) : 0;
    if (left - head < body)
        return 0;
    c->once = connection && !strncasecmp(connection, "close", 5);
    bool leaving = c->stage == LEAVING && !c->send_close;
    if (left < 12 || memcmp(at + 9, "200", 3)) {
        keep_error(at, left);
        lose(c, "HTTP error");
        return head + body;
    }
    if (leaving) {
        lose(c, "left");
        return head + body;
    }
    const char *from = at + head, *stop = from + body;
    bool ok = body == 2 && (!memcmp(from, "ok", 2) || !memcmp(from, "OK", 2));
    while (!ok && from < stop && c->fd >= 0) {
        const char *separator = memchr(from, SEPARATOR, (size_t)(stop - from));
        const char *last = separator ? separator : stop;
        packet(c, from, (size_t)(last - from), at_ns);
        from = last + 1;
    }
    if (c->fd < 0)
        return head + body;
    if (c->once) {
        shut(c);
        dial(c);
    } else {
        next_request(c);
    }
    return head + body;
}

static size_t handshake(struct client *c, const char *at, size_t left)
{
    const char *end = memmem(at, left, "\r\n\r\n", 4);
    if (!end)
        return 0;
    if (left < 12 || memcmp(at + 9, "101", 3)) {
        keep_error(at, left);
        lose(c, "no upgrade");
        return left;
    }
    c->stage = JOINING;
    return (size_t)(end - at) + 4;
}

static size_t consume(struct client *c, const char *bytes, size_t count, uint64_t at_ns)
{
    size_t used = 0;
    int fd = c->fd;
    while (used < count && c->fd == fd) {
        size_t step = options.polling ? response(c, bytes + used, count - used, at_ns)
            : c->stage == OPENING     ? handshake(c, bytes + used, count - used)
                                      : frame(c, bytes + used, count - used, at_ns);
        if (!step)
            break;
        used += step;
    }
    return c->fd == fd ? used : count;
}

static void make_room(struct client *c, size_t room)
{
    if (room <= c->carry_room)
        return;
    c->carry = realloc(c->carry, room);
    c->carry_room = room;
    if (!c->carry)
        die("realloc");
}

static void readable(struct client *c)
{
    /* A large rest of the last read stays in its own buffer, a small one moves to the shared buffer. */
    size_t kept = c->carry_bytes;
    bool own = kept > READ_BYTES / 4;
    if (own)
        make_room(c, kept + CARRY_STEP > c->carry_room ? 2 * kept + CARRY_STEP : c->carry_room);
    char *into = own ? c->carry : buffer;
    size_t room = own ? c->carry_room : sizeof buffer;
    if (!own && kept)
        memcpy(buffer, c->carry, kept);
    ssize_t got = recv(c->fd, into + kept, room - kept, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        lose(c, got ? strerror(errno) : "the server closed the connection");
        return;
    }
    run.bytes += (uint64_t)got;
    size_t all = kept + (size_t)got;
    c->carry_bytes = 0;
    int fd = c->fd;
    size_t used = consume(c, into, all, now_ns());
    if (c->fd != fd || used == all)
        return;
    make_room(c, all - used < 4096 ? 4096 : all - used);
    memmove(c->carry, into + used, all - used);
    c->carry_bytes = all - used;
}

/* ---- phases ---- */

static void clear(enum phase kind, double deadline_s)
{
    int ready = run.ready, in_flight = run.in_flight;
    memset(&run, 0, sizeof run);
    run.kind = kind;
    run.ready = ready;
    run.in_flight = in_flight;
    run.began_ns = now_ns();
    run.deadline_ns = run.began_ns + (uint64_t)(deadline_s * 1e9);
    run.emitted_ns = UINT64_MAX;
    run.unsampled = (uint64_t)options.sample;
    run.cpu_s = cpu_s();
    for (int i = 0; i < options.clients; i++) {
        clients[i].deliveries = 0;
        clients[i].number = NO_NUMBER;
    }
}

static void report(const char *phase)
{
    double wall_s = (double)(now_ns() - run.began_ns) / 1e9, used_s = cpu_s() - run.cpu_s;
    uint64_t least = UINT64_MAX, most = 0;
    for (int i = 0; i < options.clients; i++) {
        least = clients[i].deliveries < least ? clients[i].deliveries : least;
        most = clients[i].deliveries > most ? clients[i].deliveries : most;
    }
    printf("{\"phase\":\"%s\",\"clients\":%d,\"ready\":%d,\"failed\":%d,\"lost\":%d,\"unrecovered\":%d,\"cycles\":%ld,"
           "\"expected\":%llu,\"deliveries\":%llu,\"disorder\":%llu,\"client_min\":%llu,\"client_max\":%llu,"
           "\"bytes\":%llu,\"frames\":%llu,\"polls\":%llu,\"wall_s\":%.6f,\"cpu_s\":%.6f,\"spread_s\":%.6f,"
           "\"elapsed_s\":%.6f,\"error\":\"%s\"",
        phase, options.clients, run.ready, run.failed, run.lost, run.unrecovered, run.cycles_done,
        (unsigned long long)run.expected, (unsigned long long)run.deliveries, (unsigned long long)run.disorder,
        (unsigned long long)least, (unsigned long long)most, (unsigned long long)run.bytes,
        (unsigned long long)run.frames, (unsigned long long)run.polls, wall_s, used_s,
        (double)(run.last_ns - run.first_ns) / 1e9,
        run.deliveries ? (double)(run.last_ns - run.emitted_ns) / 1e9 : 0.0, run.error);
    print_histogram("latency_us", &run.latency);
    print_histogram("connect_us", &run.connecting);
    printf("}\n");
    fflush(stdout);
}

static void command(char *line)
{
    unsigned long long expected = 0;
    double seconds = 0;
    int concurrency = 0;
    long times = 0;
    unsigned long long step = 0;
    char fifo[200] = "";
    if (sscanf(line, "connect %llu %lf %d", &expected, &seconds, &concurrency) == 3) {
        clear(CONNECT, seconds);
        run.expected = expected;
        run.concurrency = concurrency;
    } else if (sscanf(line, "count %llu %lf %llu %199s", &expected, &seconds, &step, fifo) >= 2) {
        clear(COUNT, seconds);
        run.expected = expected;
        run.step = step;
        /* Read-write, so that open() does not wait for the emitter. */
        if (step && (run.steps_fd = open(fifo, O_RDWR | O_NONBLOCK)) < 0)
            die(fifo);
        printf("{\"phase\":\"counting\"}\n");
        fflush(stdout);
    } else if (sscanf(line, "hold %lf", &seconds) == 1) {
        clear(HOLD, seconds);
    } else if (sscanf(line, "churn %ld %lf %d", &times, &seconds, &concurrency) == 3) {
        clear(CHURN, seconds);
        run.cycles_wanted = times;
        run.concurrency = concurrency < options.clients ? concurrency : options.clients;
    } else if (!strncmp(line, "cut", 3)) {
        clear(IDLE, 0);
        for (int i = 0; i < options.clients; i++) {
            shut(&clients[i]);
            clients[i].stage = AWAY;
        }
        run.ready = run.in_flight = 0;
        report("cut");
    } else if (!strncmp(line, "quit", 4)) {
        exit(0);
    } else {
        fprintf(stderr, "load: unknown command: %s\n", line);
        exit(2);
    }
}

static void fill(void)
{
    while (run.kind == CONNECT && run.in_flight < run.concurrency && run.next < options.clients) {
        struct client *c = &clients[run.next++];
        if (c->stage == AWAY)
            begin(c);
    }
    while (run.kind == CHURN && run.in_flight < run.concurrency
        && run.cycles_begun - run.failed < run.cycles_wanted && run.failed < 100) {
        struct client *c = &clients[run.next++ % options.clients];
        if (c->stage == AWAY) {
            run.cycles_begun++;
            begin(c);
        }
    }
}

static bool reached(void)
{
    switch (run.kind) {
    case CONNECT:
        return run.next == options.clients && run.in_flight == 0 && run.deliveries >= run.expected;
    case COUNT:
        return run.deliveries >= run.expected || run.ready == 0;
    case CHURN:
        return run.in_flight == 0 && (run.cycles_done >= run.cycles_wanted || run.failed >= 100);
    default:
        return false;
    }
}

static void check(void)
{
    static const char *const names[] = {"idle", "connect", "count", "hold", "churn"};
    if (run.kind == IDLE)
        return;
    uint64_t now = now_ns();
    if (!run.done_ns && reached())
        run.done_ns = now;
    /* Only deliveries can be duplicated, so only a count of deliveries waits for more. */
    bool lingered = run.done_ns && (run.expected == 0 || now - run.done_ns > LINGER_NS);
    if (!lingered && now < run.deadline_ns)
        return;
    report(names[run.kind]);
    if (run.step)
        close(run.steps_fd);
    run.kind = IDLE;
}

static bool commands(void)
{
    static char line[512];
    static size_t filled;
    ssize_t got = read(STDIN_FILENO, line + filled, sizeof line - 1 - filled);
    if (got <= 0)
        return false;
    filled += (size_t)got;
    line[filled] = 0;
    char *end = strchr(line, '\n');
    if (end) {
        *end = 0;
        command(line);
        filled = 0;
    }
    return true;
}

static void serve(void)
{
    struct epoll_event events[EVENTS];
    for (;;) {
        fill();
        check();
        int count = epoll_wait(poller, events, EVENTS, run.kind == IDLE ? 1000 : 5);
        if (count < 0 && errno != EINTR)
            die("epoll_wait");
        for (int i = 0; i < count; i++) {
            struct client *c = events[i].data.ptr;
            if (c == NULL) {
                if (!commands())
                    return;
            } else if (c->fd < 0) {
                continue; /* closed by an earlier event of this loop */
            } else if (c->dialling) {
                dialled(c);
            } else {
                readable(c);
            }
        }
    }
}

/* ---- start ---- */

static void read_auth(const char *path)
{
    FILE *file = fopen(path, "r");
    char *line = NULL;
    size_t room = 0;
    ssize_t bytes;
    if (!file)
        die(path);
    while ((bytes = getline(&line, &room, file)) > 0) {
        line[strcspn(line, "\n")] = 0;
        auth = realloc(auth, sizeof *auth * (size_t)(auth_lines + 1));
        if (!auth || !(auth[auth_lines++] = strdup(line)))
            die("memory");
    }
    free(line);
    fclose(file);
}

static void parse(int argc, char **argv)
{
    static const struct option names[] = {{"port", 1, 0, 'p'}, {"clients", 1, 0, 'c'}, {"transport", 1, 0, 't'},
        {"auth", 1, 0, 'a'}, {"ready", 1, 0, 'r'}, {"sources", 1, 0, 's'}, {"sample", 1, 0, 'e'},
        {"keep-cursor", 0, 0, 'k'}, {0, 0, 0, 0}};
    int found;
    options.server.sin_family = AF_INET;
    options.server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    while ((found = getopt_long(argc, argv, "", names, NULL)) != -1) {
        switch (found) {
        case 'p': options.server.sin_port = htons((uint16_t)atoi(optarg)); break;
        case 'c': options.clients = atoi(optarg); break;
        case 't': options.polling = !strcmp(optarg, "polling"); break;
        case 'a': read_auth(optarg); break;
        case 'r': snprintf(options.ready, sizeof options.ready, "%s", optarg); break;
        case 's': options.sources = atoi(optarg); break;
        case 'e': options.sample = atoi(optarg); break;
        case 'k': options.keep_cursor = true; break;
        default: exit(2);
        }
    }
}

int main(int argc, char **argv)
{
    struct rlimit files;
    parse(argc, argv);
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    clients = calloc((size_t)options.clients, sizeof *clients);
    poller = epoll_create1(0);
    if (!clients || poller < 0)
        die("start");
    for (int i = 0; i < options.clients; i++)
        clients[i].fd = -1;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, STDIN_FILENO, &event))
        die("stdin must be a pipe");
    serve();
    return 0;
}
