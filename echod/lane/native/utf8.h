/*
 * UTF-8 byte by byte: the grammar of RFC 3629 section 4 as a table, and the states between two bytes.
 *
 * Knows that grammar. Must never know where the bytes come from, or how a kernel checks many bytes at once. Every
 * kernel gives the same result as this table, for any bytes, wherever they are cut.
 */
#ifndef ECHOD_UTF8_H
#define ECHOD_UTF8_H

#include <stdint.h>

#include "codec.h"
#include "unaligned.h"

/* A state is the position of its six bits in a row of the table, so that a step is one load and one shift. */
enum {
    UTF8_REJECT = ECHOD_UTF8_REJECT,
    UTF8_ACCEPT = ECHOD_UTF8_ACCEPT,
    UTF8_TAIL_1 = 12, /* one UTF8-tail is missing */
    UTF8_TAIL_2 = 18,
    UTF8_TAIL_3 = 24,
    UTF8_AFTER_E0 = 30,
    UTF8_AFTER_ED = 36,
    UTF8_AFTER_F0 = 42,
    UTF8_AFTER_F4 = 48,
};

/* For each byte, the next state for each state. */
extern const uint64_t echod_utf8_rows[256];

static inline uint32_t utf8_step(uint32_t state, uint8_t octet)
{
    return (uint32_t)(echod_utf8_rows[octet] >> state) & 63;
}

/* Run over ASCII eight bytes at a time, and over the rest byte by byte. */
static inline uint32_t utf8_walk(uint32_t state, const uint8_t *octets, size_t len)
{
    size_t at = 0;
    while (at + 8 <= len) {
        if (state == UTF8_ACCEPT && (load_64(octets + at) & HIGH_BITS) == 0) {
            at += 8;
            continue;
        }
        for (int i = 0; i < 8; i++)
            state = utf8_step(state, octets[at++]);
    }
    while (at < len)
        state = utf8_step(state, octets[at++]);
    return state;
}

#endif
