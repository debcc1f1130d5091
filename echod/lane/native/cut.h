/*
 * An ordinary frame that is cut: a small one is kept until the rest is there, a large one is collected in a buffer of its own, and checked
 * and unmasked as it comes.
 *
 * Knows what codec.h tells of large frames. Must never know a socket, nor how an answer is sent.
 */
#ifndef ECHOD_CUT_H
#define ECHOD_CUT_H

#include "lease.h"

/* Keep what begins an ordinary frame that is not whole; `need` as in echod_echoed. False: the lease has ended. */
bool echod_cut_keep(echod_pump *pump, lease_t *lease, const uint8_t *rest, size_t size, uint64_t need);

/* Take octets of a large frame; NULL: they are where they belong already, behind `done`. False: the lease has ended. */
bool echod_cut_feed(echod_pump *pump, lease_t *lease, const uint8_t *octets, size_t size);

#endif
