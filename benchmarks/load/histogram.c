/* Percentiles of a histogram. See histogram.h. */
#include "histogram.h"

static uint64_t upper_bound(unsigned step)
{
    unsigned octave = step / HISTOGRAM_STEPS;
    if (octave == 0) {
        return step;
    }
    return ((HISTOGRAM_STEPS + step % HISTOGRAM_STEPS + 1ULL) << (octave - 1U)) - 1U;
}

double histogram_percentile(const Histogram *histogram, double share)
{
    uint64_t wanted = (uint64_t)((double)histogram->total * share + 0.5);
    uint64_t seen = 0;
    for (unsigned step = 0; step < HISTOGRAM_OCTAVES * HISTOGRAM_STEPS; step++) {
        seen += histogram->count[step];
        if (seen >= wanted && seen > 0) {
            uint64_t bound = upper_bound(step);
            return (double)(bound < histogram->most ? bound : histogram->most) / 1e3;
        }
    }
    return (double)histogram->most / 1e3;
}
