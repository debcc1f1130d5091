/*
 * An ordinary frame of which only the beginning has come. A small frame is kept until the rest is there. A large frame
 * is collected in a buffer of its own, and unmasked and checked as it arrives.
 *
 * Knows what codec.h says of large frames. Must never know a socket, or how an answer is sent.
 */
#ifndef ECHOD_PARTIAL_H
#define ECHOD_PARTIAL_H

#include "lease.h"

/* Keep the beginning of an ordinary frame. `need` as in echod_echoed. CONTINUE or ENDED. */
outcome echod_partial_keep(echod_pump *pump, lease_t *lease, const uint8_t *rest, size_t size, uint64_t need);

/* Take bytes of a large frame. NULL: they are in the frame's buffer already, behind `done`. CONTINUE or ENDED. */
outcome echod_partial_feed(echod_pump *pump, lease_t *lease, const uint8_t *octets, size_t size);

#endif
