/*
 * A read that is not all ordinary frames. Fragmented messages are gathered, deflated ones are inflated, and the
 * ordinary ones between them are echoed.
 *
 * Knows what gather.h, deflate.h and codec.h say of bytes that have arrived. Must never know how bytes are received, or
 * how an answer is sent.
 */
#ifndef ECHOD_MIXED_READ_H
#define ECHOD_MIXED_READ_H

#include "lease.h"

/* Serve a read. The shared buffer's [0, produced) are answers that are to be sent. The first bytes of [at, size) are
   not ordinary, or belong to a gathered message. CONTINUE, PUT_OFF or ENDED. */
outcome echod_serve_mixed(echod_pump *pump, lease_t *lease, size_t produced, size_t at, size_t size);

#endif
