/*
 * A message that is put together: from the frames of a fragmented message, or from the bytes of a deflated one.
 *
 * Knows RFC 6455's fragmentation (section 5.4), and that RSV1 in the first frame marks a deflated message (RFC 7692
 * section 6). Must never know a socket, an allocator, or how to inflate.
 *
 * Bytes that do not belong to a correct message are left where they are: a control frame, a wrong header, text that is
 * not UTF-8. When they appear, or when the owner has to go on for another reason, the bytes that were taken become
 * frames again: one frame with the payload of all whole frames, and the current frame as it came.
 */
#ifndef ECHOD_GATHER_H
#define ECHOD_GATHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "codec.h"
#include "frame.h"

typedef struct {
    echod_large frame;      /* the current frame's payload; the validator's state goes on from frame to frame */
    uint64_t whole;         /* bytes of payload in the whole frames before it */
    uint32_t fragments;     /* the number of these frames */
    uint32_t max_fragments; /* the most frames of a message */
    uint64_t max_size;      /* the most bytes of payload, as they arrive */
    bool is_in_payload;     /* the current frame's header is complete */
    uint8_t kind;           /* opcode and RSV1 */
    uint8_t header_size;    /* bytes of the current frame's header that are there */
    uint8_t header[CLIENT_HEADER];
} echod_gather;

typedef enum {
    ECHOD_GATHER_OPEN,     /* everything was taken, and the message goes on */
    ECHOD_GATHER_COMPLETE, /* the message is whole; if it is text and not deflated, it is UTF-8 */
    ECHOD_GATHER_ODD,      /* the owner has to judge what comes next, or the current frame */
} echod_gather_state;

/* Whether a message that can be gathered begins with a frame that has this first byte. */
bool echod_gather_is_first(uint8_t octet, bool takes_deflated);

/* Read the header of a final frame, whatever else its first byte says. Returns the size of the header, or 0 if the
   frame is not all in octets[0, len), or its payload is longer than max_size. */
size_t echod_gather_whole(echod_large *frame, const uint8_t *octets, size_t len, uint64_t max_size);

/* Whether the message is deflated. */
bool echod_gather_is_deflated(const echod_gather *it);

/* The opcode of the message, 1 or 2. */
uint8_t echod_gather_opcode(const echod_gather *it);

/* Whether a frame of the message has begun and is not whole. Otherwise a control frame may come next. */
bool echod_gather_is_within_frame(const echod_gather *it);

/* Begin a message, whose first frame has this first byte. */
void echod_gather_begin(echod_gather *it, uint8_t octet, uint64_t max_size, uint32_t max_fragments);

/* Take bytes from source[*at, len), and move *at behind them. Their payload goes behind what was gathered before, where
   there must be room for len - *at bytes. `payload` is where the gathered payload begins. Only call it again after
   OPEN. */
echod_gather_state echod_gather_feed(echod_gather *it, uint8_t *payload, const uint8_t *source, size_t len, size_t *at);

/* Bytes of payload that are gathered. */
size_t echod_gather_size(const echod_gather *it);

/* Turn what was taken into frames again, in place. Returns where they begin, which is at most 2 * CLIENT_HEADER bytes
   before the payload; they end where the payload ended. The payload is overwritten. `it` must not lie in these
   bytes. */
uint8_t *echod_gather_restore(const echod_gather *it, uint8_t *payload);

#endif
