/*
 * Spare buffers: those of large messages that are over, kept for the next ones. To have the kernel give, and clear, a new one for each
 * doubles what a message of 1 MiB costs.
 *
 * Knows the allocator. Must never know what is in a buffer.
 */
#ifndef ECHOD_SPARE_H
#define ECHOD_SPARE_H

#include <stddef.h>
#include <stdint.h>

enum { SPARES = 8 };

typedef struct {
    uint8_t *buffers[SPARES];
    size_t size; /* their octets in all */
} echod_spares;

/* A buffer of at least `size` octets, and of less than twice as many: else a few could hold more than was reckoned with. *touched: its
   octets that take memory already, as they were another's; of the others those do that are written to. NULL: there is no memory. */
uint8_t *echod_spares_take(echod_spares *spares, size_t size, size_t *touched);

/* Keep a buffer for later, if there is room, or release it. */
void echod_spares_give(echod_spares *spares, uint8_t *buffer);

/* Release them all. */
void echod_spares_trim(echod_spares *spares);

#endif
