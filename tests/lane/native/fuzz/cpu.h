/*
 * The oracle for time: what is done in one go may take this long, under sanitizers, too. Compiled without them it takes
 * a quarter of it at most, and what no limit holds up takes twice as long.
 *
 * A file that includes this defines _GNU_SOURCE before all else.
 */
#ifndef CPU_H
#define CPU_H

#include <stdint.h>
#include <time.h>

enum { MOST_TIME = 40 * 1000 * 1000 };

/* Nanoseconds that this thread has had of the processor: others that keep it busy don't count. */
static inline uint64_t cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

#endif
