/*
 * What the codec has to do, byte by byte, for the fuzz targets.
 *
 * Knows RFC 6455 and RFC 3629. Must never share a line with the codec. A target that disagrees with it aborts, and the
 * fuzzer keeps the input.
 */
#ifndef ORACLE_H
#define ORACLE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec.h"

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, echod_codec_isa(), #condition);                     \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

/* Copy to a block of exactly this size, so that AddressSanitizer notices any access beside it. */
static uint8_t *exact(const uint8_t *octets, size_t len)
{
    uint8_t *block = malloc(len);
    CHECK(block || len == 0);
    if (len != 0)
        memcpy(block, octets, len);
    return block;
}

typedef enum { TEXT_ENDS, TEXT_GOES_ON, NO_TEXT } text_verdict;

/* Decode code point by code point. TEXT_GOES_ON: the last character is incomplete, and more bytes can complete it. */
static text_verdict oracle_text(const uint8_t *octets, size_t len)
{
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    for (size_t at = 0; at < len;) {
        uint8_t lead = octets[at];
        size_t size = lead < 0x80 ? 1 : lead < 0xC0 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : lead < 0xF8 ? 4 : 0;
        if (size == 0)
            return NO_TEXT;
        /* The smallest and the largest code point that the character can become. */
        uint32_t low = size == 1 ? lead : lead & (0x7Fu >> size), high = low;
        size_t i = 1;
        for (; i < size && at + i < len; i++) {
            if ((octets[at + i] & 0xC0) != 0x80)
                return NO_TEXT;
            low = low << 6 | (octets[at + i] & 0x3F);
            high = high << 6 | (octets[at + i] & 0x3F);
        }
        for (size_t missing = i; missing < size; missing++) {
            low = low << 6;
            high = high << 6 | 0x3F;
        }
        int all_surrogates = low >= 0xD800 && high <= 0xDFFF;
        if (high < smallest[size] || low > 0x10FFFF || all_surrogates)
            return NO_TEXT;
        if (i < size)
            return TEXT_GOES_ON;
        at += size;
    }
    return TEXT_ENDS;
}

static void oracle_mask(uint8_t *octets, size_t len, const uint8_t *key, size_t phase)
{
    for (size_t i = 0; i < len; i++)
        octets[i] ^= key[(phase + i) % 4];
}

#endif
