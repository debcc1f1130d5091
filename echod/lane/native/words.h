/* Words of several octets from any address. Knows no masking, no UTF-8, no frame: only the compiler's habits. */
#ifndef ECHOD_WORDS_H
#define ECHOD_WORDS_H

#include <stdint.h>
#include <string.h>

/* What no octet of ASCII has. */
#define HIGH_BITS UINT64_C(0x8080808080808080)

/* A memcpy of fixed size is one instruction, and the only way to read a word that C allows whatever the address. */
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
