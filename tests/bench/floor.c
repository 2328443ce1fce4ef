/*
 * The floor of tests/bench: the cost of the kernel alone. It accepts N clients of load.c with the shortest
 * handshake that they accept. Then it writes prepared bytes to every socket, with one write(2) per recipient
 * and message. It never combines messages and looks nothing up.
 *
 *   floor CLIENTS          prints {"port": N}, then executes lines on stdin:
 *   flat COUNT             writes COUNT messages to every client, as fast as possible
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PAYLOAD 248 /* 42["bench",<200 bytes of data>,"bench:all","<cursor>"] */
#define FILL 159

static void must(int ok, const char *what)
{
    if (!ok) {
        perror(what);
        exit(1);
    }
}

static void put(int fd, const char *bytes, size_t count)
{
    while (count) {
        ssize_t written = write(fd, bytes, count);
        must(written > 0, "write");
        bytes += written;
        count -= (size_t)written;
    }
}

static void text(int fd, const char *payload)
{
    char frame[256];
    int length = snprintf(frame, sizeof frame, "%c%c%s", 0x81, (int)strlen(payload), payload);
    put(fd, frame, (size_t)length);
}

static void greet(int fd)
{
    char request[8192];
    must(read(fd, request, sizeof request) > 0, "handshake");
    static const char upgraded[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    put(fd, upgraded, sizeof upgraded - 1);
    text(fd, "0{\"sid\":\"floor\",\"upgrades\":[],\"pingInterval\":25000,\"pingTimeout\":20000,\"maxPayload\":65536}");
    must(read(fd, request, sizeof request) > 0, "connect");
    text(fd, "40{\"sid\":\"floor\"}");
}

static size_t message(char *frame, unsigned number)
{
    struct timespec at;
    char payload[PAYLOAD + 1], fill[FILL + 1];
    memset(fill, 'a', FILL);
    fill[FILL] = 0;
    clock_gettime(CLOCK_MONOTONIC, &at);
    unsigned long long ns = (unsigned long long)at.tv_sec * 1000000000ull + (unsigned long long)at.tv_nsec;
    int length = snprintf(payload, sizeof payload,
        "42[\"bench\",{\"t\":\"~T%016llx%08x\",\"x\":\"%s\"},\"bench:all\",\"abcdefghijkl.%08u\"]", ns, number, fill, number);
    must(length == PAYLOAD, "payload");
    frame[0] = (char)0x81;
    frame[1] = 126;
    frame[2] = (char)(PAYLOAD >> 8);
    frame[3] = (char)(PAYLOAD & 0xff);
    memcpy(frame + 4, payload, PAYLOAD);
    return PAYLOAD + 4;
}

int main(int argc, char **argv)
{
    must(argc == 2, "floor CLIENTS");
    int clients = atoi(argv[1]), one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    must(!bind(listener, (struct sockaddr *)&address, sizeof address) && !listen(listener, 4096), "listen");
    getsockname(listener, (struct sockaddr *)&address, &size);
    printf("{\"port\": %d}\n", ntohs(address.sin_port));
    fflush(stdout);
    int *sockets = calloc((size_t)clients, sizeof *sockets);
    must(sockets != NULL, "memory");
    for (int i = 0; i < clients; i++) {
        sockets[i] = accept(listener, NULL, NULL);
        must(sockets[i] >= 0, "accept");
        setsockopt(sockets[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        greet(sockets[i]);
    }
    char line[64], frame[PAYLOAD + 8];
    unsigned count, number = 0;
    while (fgets(line, sizeof line, stdin) && sscanf(line, "flat %u", &count) == 1)
        for (unsigned end = number + count; number < end; number++) {
            size_t bytes = message(frame, number);
            for (int i = 0; i < clients; i++)
                put(sockets[i], frame, bytes);
        }
    return 0;
}
