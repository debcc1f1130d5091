/* The cycle of messages that every connection sends repeatedly, and the answers that it must get.
 *
 * Messages are made, masked, framed and compressed once, before anything is measured. Their octets are sent straight
 * from memory. All messages of a cycle differ, so that a lost, doubled or swapped answer shows as a wrong octet.
 *
 * With context takeover the same holds. The first cycle is compressed with an empty window, and sent once. The second
 * refers to the first. The plain text repeats with a period of at least the window, so the second is valid as every
 * later cycle, too.
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
    size_t history_len; /* octets right before `plain` that a compressor with context takeover may refer to */
    size_t wire_at;
    size_t wire_len;
    uint8_t *verified; /* a compressed answer that inflated to the message, and need not be inflated again */
    size_t verified_len;
} Entry;

typedef struct {
    Entry *entries;
    unsigned count;
    unsigned steady; /* the entry at which the repeated cycle begins */
    uint8_t *wire;
    uint8_t opcode;
} Script;

Script script_make(const Options *options);

static inline unsigned script_next(const Script *script, unsigned entry)
{
    return entry + 1 < script->count ? entry + 1 : script->steady;
}

#endif
