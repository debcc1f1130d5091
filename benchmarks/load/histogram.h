/* A histogram of durations with a bounded relative error (each octave in 64 steps: under 1.6 %).
 *
 * Knows: nanoseconds. Must never know: what the durations are of.
 */
#ifndef LOAD_HISTOGRAM_H
#define LOAD_HISTOGRAM_H

#include <stdint.h>

enum { HISTOGRAM_STEPS = 64, HISTOGRAM_OCTAVES = 40 };

typedef struct {
    uint64_t count[HISTOGRAM_OCTAVES * HISTOGRAM_STEPS];
    uint64_t total;
    uint64_t most;
} Histogram;

static inline unsigned histogram_step(uint64_t nanoseconds)
{
    if (nanoseconds < HISTOGRAM_STEPS) {
        return (unsigned)nanoseconds;
    }
    unsigned exponent = 63U - (unsigned)__builtin_clzll(nanoseconds);
    unsigned step = (exponent - 5U) * HISTOGRAM_STEPS;
    step += (unsigned)((nanoseconds >> (exponent - 6U)) & (HISTOGRAM_STEPS - 1U));
    unsigned last = HISTOGRAM_OCTAVES * HISTOGRAM_STEPS - 1U;
    return step < last ? step : last;
}

static inline void histogram_add(Histogram *histogram, uint64_t nanoseconds)
{
    histogram->count[histogram_step(nanoseconds)]++;
    histogram->total++;
    if (nanoseconds > histogram->most) {
        histogram->most = nanoseconds;
    }
}

/* The duration in microseconds that the given share of all durations does not exceed. */
double histogram_percentile(const Histogram *histogram, double share);

#endif
