/*
 * The kernel for any processor: words of eight octets, and the table of utf8.h for text that is not ASCII.
 *
 * Knows no instruction set. It is what the other kernels are compared with.
 */
#include "kernel.h"
#include "unmask.h"
#include "utf8.h"

static uint64_t unmask(uint8_t *target, const uint8_t *source, size_t len, uint32_t key)
{
    uint64_t seen = 0, pair = key_pair(key), last[BLOCK / 8];
    /* The end is read before the loop may write over it, and written after it. */
    memcpy(last, source + len - BLOCK, BLOCK);
    for (size_t at = 0; at + BLOCK <= len; at += BLOCK)
        UNMASK_WORDS(BLOCK / 8, target + at, source + at, pair, seen);
    uint64_t last_pair = key_pair(key_at(key, len));
    UNMASK_WORDS(BLOCK / 8, target + len - BLOCK, last, last_pair, seen);
    return seen;
}

const echod_kernel echod_kernel_scalar = {"scalar", unmask, utf8_walk};
