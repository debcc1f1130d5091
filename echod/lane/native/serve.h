/*
 * A read that is not all ordinary frames: fragmented messages are gathered, deflated ones inflated, and ordinary ones between them echoed.
 *
 * Knows what gather.h, deflate.h and codec.h tell of octets that are there. Must never know how these are received, nor how an answer is
 * sent.
 */
#ifndef ECHOD_SERVE_H
#define ECHOD_SERVE_H

#include "lease.h"

/* Serve what has been read: buffer[0, produced) are answers that are to be sent, and of buffer[at, size) the first octets are not ordinary,
   or belong to a message that is gathered. False: the lease has ended. */
bool echod_serve(echod_pump *pump, lease_t *lease, size_t produced, size_t at, size_t size);

#endif
