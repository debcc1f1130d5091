/*
 * The kernel for any processor: it works on words of eight bytes, and on text that is not ASCII with the table of
 * utf8.h.
 *
 * Knows no instruction set. The tests compare the other kernels with it.
 */
#include "kernel.h"
#include "unmask.h"
#include "utf8.h"

static uint64_t unmask(uint8_t *target, const uint8_t *source, size_t len, uint32_t key)
{
    uint64_t seen = 0, pair = key_pair(key), last[BLOCK / 8];
    /* The end is read before the loop may overwrite it, and is written after the loop. */
    memcpy(last, source + len - BLOCK, BLOCK);
    for (size_t at = 0; at + BLOCK <= len; at += BLOCK)
        UNMASK_WORDS(BLOCK / 8, target + at, source + at, pair, seen);
    uint64_t last_pair = key_pair(key_at(key, len));
    UNMASK_WORDS(BLOCK / 8, target + len - BLOCK, last, last_pair, seen);
    return seen;
}

const echod_kernel echod_kernel_scalar = {"scalar", unmask, utf8_walk};
