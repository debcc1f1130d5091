/*
 * Reads of several bytes from any address. Knows what compilers make of memcpy. Must never know masking, UTF-8 or
 * frames.
 */
#ifndef ECHOD_UNALIGNED_H
#define ECHOD_UNALIGNED_H

#include <stdint.h>
#include <string.h>

/* The bits that no ASCII byte has set. */
#define HIGH_BITS UINT64_C(0x8080808080808080)

/* A memcpy of a fixed size compiles to one instruction. It is the only read from an unaligned address that C allows. */
static inline uint64_t load_64(const uint8_t *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

static inline uint32_t load_32(const uint8_t *at)
{
    uint32_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

#endif
