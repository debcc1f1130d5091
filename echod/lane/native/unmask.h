/*
 * Unmasking of fewer bytes than a kernel's block, and the masking key (RFC 6455 section 5.3: byte i of a payload is
 * masked with byte i mod 4 of the key).
 *
 * Knows bytes and keys. Must never know a frame, or which kernel is in use.
 *
 * Every function here, and every kernel, reads source[0, len) and writes target[0, len) and no byte outside. If the
 * target lies before the source, it reads bytes before it overwrites them. It returns the unmasked bytes or-ed
 * together, so that ASCII text needs no second look.
 */
#ifndef ECHOD_UNMASK_H
#define ECHOD_UNMASK_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "unaligned.h"

/* Bytes that a kernel works on at a time. unmask_short takes fewer. */
#define BLOCK 64

/* The key for bytes that begin `offset` bytes later. */
static inline uint32_t key_at(uint32_t key, uint64_t offset)
{
    unsigned shift = (unsigned)(offset & 3) * 8;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    return key >> shift | key << (-shift & 31);
#else
    return key << shift | key >> (-shift & 31);
#endif
}

static inline uint64_t key_pair(uint32_t key)
{
    return (uint64_t)key << 32 | key;
}

/* Unmask N words of eight bytes. All are read before any is written. */
#define UNMASK_WORDS(N, target, source, key, seen)                                                                     \
    do {                                                                                                               \
        uint64_t words_[N];                                                                                            \
        memcpy(words_, (source), sizeof words_);                                                                       \
        for (int i_ = 0; i_ < (N); i_++)                                                                               \
            (seen) |= words_[i_] ^= (key);                                                                             \
        memcpy((target), words_, sizeof words_);                                                                       \
    } while (0)

/* Unmask two runs of N words that together cover [0, len), 8 N <= len <= 16 N. The runs may overlap, because both are
   read before any is written. */
#define UNMASK_TWO_RUNS(N, target, source, len, key, seen)                                                             \
    do {                                                                                                               \
        size_t second_ = (len)-8 * (N);                                                                                \
        uint64_t first_key_ = key_pair(key), second_key_ = key_pair(key_at((key), second_)), words_[2 * (N)];          \
        memcpy(words_, (source), 8 * (N));                                                                             \
        memcpy(words_ + (N), (source) + second_, 8 * (N));                                                             \
        for (int i_ = 0; i_ < (N); i_++) {                                                                             \
            (seen) |= words_[i_] ^= first_key_;                                                                        \
            (seen) |= words_[(N) + i_] ^= second_key_;                                                                 \
        }                                                                                                              \
        memcpy((target), words_, 8 * (N));                                                                             \
        memcpy((target) + second_, words_ + (N), 8 * (N));                                                             \
    } while (0)

/* Unmask len < BLOCK bytes. Most messages are this short, so this has no call and no loop over words. */
static inline uint64_t unmask_short(uint8_t *target, const uint8_t *source, size_t len, uint32_t key)
{
    uint64_t seen = 0;
    if (len >= 32) {
        UNMASK_TWO_RUNS(4, target, source, len, key, seen);
    } else if (len >= 16) {
        UNMASK_TWO_RUNS(2, target, source, len, key, seen);
    } else if (len >= 8) {
        UNMASK_TWO_RUNS(1, target, source, len, key, seen);
    } else if (len >= 4) {
        uint32_t first = load_32(source) ^ key, last = load_32(source + len - 4) ^ key_at(key, len);
        memcpy(target, &first, 4);
        memcpy(target + len - 4, &last, 4);
        seen = first | last;
    } else {
        const uint8_t *octet = (const uint8_t *)&key;
        for (size_t i = 0; i < len; i++)
            seen |= target[i] = source[i] ^ octet[i];
    }
    return seen;
}

#endif
