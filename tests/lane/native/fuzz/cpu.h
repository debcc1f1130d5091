/*
 * The oracle for time: the most that one call may take, under sanitizers, too. Without sanitizers a call takes at most
 * a quarter of this time, and work without a limit would take twice this time.
 *
 * A file that includes this defines _GNU_SOURCE before all else.
 */
#ifndef CPU_H
#define CPU_H

#include <stdint.h>
#include <time.h>

enum { MOST_TIME = 40 * 1000 * 1000 };

/* Nanoseconds of CPU time of this thread: other load on the machine does not count. */
static inline uint64_t cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

#endif
