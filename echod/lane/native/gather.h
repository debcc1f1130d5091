/*
 * A message that is put together: from the frames of a fragmented one, or the octets of a deflated one.
 *
 * Knows RFC 6455's fragmentation (section 5.4) and that RSV1 in the first frame says that a message is deflated (RFC 7692 section 6). Must
 * never know a socket, an allocator, or how to inflate.
 *
 * What does not belong to the message as it should is left where it is: a control frame, a header that is wrong, text that is none. Then,
 * and whenever somebody else is to go on, the octets taken become frames again: one that says what the whole frames said, and the
 * current one as it came.
 */
#ifndef ECHOD_GATHER_H
#define ECHOD_GATHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "codec.h"
#include "frame.h"

typedef struct {
    echod_large frame;      /* the current frame's payload; its validator goes on from frame to frame */
    uint64_t whole;         /* octets of payload in the frames before it, which are whole, */
    uint32_t fragments;     /* and how many these are */
    uint32_t max_fragments; /* frames in all, at most */
    uint64_t max_size;      /* octets of payload in all, at most, as they come */
    bool is_in_payload;     /* the current frame's header is all there */
    uint8_t kind;           /* opcode and RSV1 */
    uint8_t header_size;    /* octets of the current frame's header that are there */
    uint8_t header[CLIENT_HEADER];
} echod_gather;

typedef enum {
    ECHOD_GATHER_OPEN,     /* all was taken, and there is more to come */
    ECHOD_GATHER_COMPLETE, /* the message is whole, and if it is text that isn't deflated, it is UTF-8 */
    ECHOD_GATHER_ODD,      /* what comes next, or the current frame, is not for us */
} echod_gather_state;

/* Whether a message that is to be gathered can begin with a frame of this first octet. */
bool echod_gather_is_first(uint8_t octet, bool takes_deflated);

/* The header of a final frame, whatever its first octet says else, if all of it is in octets[0, len) and its payload is at most max_size;
   the answer is the header's size, or 0. */
size_t echod_gather_whole(echod_large *frame, const uint8_t *octets, size_t len, uint64_t max_size);

/* Whether such a message is deflated. */
bool echod_gather_is_deflated(const echod_gather *it);

/* Its opcode, 1 or 2. */
uint8_t echod_gather_opcode(const echod_gather *it);

/* Begin a message with a frame of this first octet. */
void echod_gather_begin(echod_gather *it, uint8_t octet, uint64_t max_size, uint32_t max_fragments);

/* Take octets from source[*at, len), and note how far. Their payload goes behind what has been gathered, where there must be room for as
   many as there are octets; `payload` is where that begins. Not to be called again but after OPEN. */
echod_gather_state echod_gather_feed(echod_gather *it, uint8_t *payload, const uint8_t *source, size_t len, size_t *at);

/* Octets of payload that have been gathered. */
size_t echod_gather_size(const echod_gather *it);

/* Octets that it takes to say again what has been taken. */
size_t echod_gather_restored_size(const echod_gather *it);

/* Say it, in place; the answer is where it begins, at most 2 * CLIENT_HEADER octets before the payload, and it ends where that did. `it` is
   not to lie in these. The payload is no longer what it was then. */
uint8_t *echod_gather_restore(const echod_gather *it, uint8_t *payload);

#endif
