/* What every connection says, over and over, and what it must hear back.
 *
 * Messages are made, masked, framed and compressed once, before anything is measured; the wire image is sent straight from
 * memory. Each message of a cycle differs from the others, so that a lost, doubled or swapped answer shows as a wrong octet.
 *
 * Under context takeover the same holds. The first cycle is compressed from an empty window and said once; the second refers to
 * what the first one left, and as the plain text repeats with a period of at least the window, it is valid at every later cycle.
 *
 * Knows: RFC 6455 section 5 (framing), payloads. Must never know: sockets, time.
 */
#ifndef LOAD_SCRIPT_H
#define LOAD_SCRIPT_H

#include "options.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    const uint8_t *plain;
    size_t plain_len;
    size_t history_len; /* octets just before `plain` that a compressor with context takeover may refer to */
    size_t wire_at;
    size_t wire_len;
    uint8_t *verified; /* a compressed answer that was inflated and compared: the same octets need not be inflated again */
    size_t verified_len;
} Entry;

typedef struct {
    Entry *entries;
    unsigned count;
    unsigned steady; /* where the cycle that repeats begins */
    uint8_t *wire;
    uint8_t opcode;
} Script;

Script script_make(const Options *options);

static inline unsigned script_next(const Script *script, unsigned entry)
{
    return entry + 1 < script->count ? entry + 1 : script->steady;
}

#endif
