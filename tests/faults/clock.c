/*
 * A wall clock that a test can set, for one process. If preloaded, it adds an offset in seconds to CLOCK_REALTIME.
 * The file named by FAULTS_CLOCK contains the offset as text. The file is mapped, so a change has an immediate effect.
 * Monotonic clocks are unchanged: they do not jump on a real machine either.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define FILE_BYTES 32

static const char *offset;

__attribute__((constructor)) static void map(void)
{
    const char *name = getenv("FAULTS_CLOCK");
    int fd = name ? open(name, O_RDONLY) : -1;
    if (fd < 0)
        return;
    void *mapping = mmap(NULL, FILE_BYTES, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (mapping != MAP_FAILED)
        offset = mapping;
}

static time_t jump_s(void)
{
    return offset ? (time_t)atoll(offset) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *at)
{
    int result = (int)syscall(SYS_clock_gettime, clock, at);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        at->tv_sec += jump_s();
    return result;
}

int gettimeofday(struct timeval *at, void *zone)
{
    (void)zone;
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now))
        return -1;
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *into)
{
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now))
        return -1;
    if (into)
        *into = now.tv_sec;
    return now.tv_sec;
}
