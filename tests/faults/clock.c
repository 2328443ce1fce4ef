/*
 * A wall clock that a test can make jump, for one process: preloaded, it adds the seconds that stand (as text)
 * in the file named by FAULTS_CLOCK to what the C library says of CLOCK_REALTIME. The file is mapped, so
 * a jump is there at once. Monotonic clocks are as they are: those do not jump on a real machine either.
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
    void *found = mmap(NULL, FILE_BYTES, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (found != MAP_FAILED)
        offset = found;
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
