/*
 * Buffers of large messages. The pool keeps the buffers of finished messages for the next ones. Otherwise the kernel,
 * which has to clear each new buffer, would double the cost of a message of 1 MiB.
 *
 * Knows the allocator. Must never know what is in a buffer.
 */
#ifndef ECHOD_BUFFER_POOL_H
#define ECHOD_BUFFER_POOL_H

#include <malloc.h>
#include <stddef.h>
#include <stdint.h>

#include "sizes.h"

typedef struct {
    uint8_t *buffers[POOL_BUFFERS];
    size_t size; /* their bytes in all */
} echod_pool;

/* The bytes that the allocator gave for a buffer, or 0 for NULL. */
static inline size_t allocated_size(uint8_t *buffer)
{
    return buffer ? malloc_usable_size(buffer) : 0;
}

/* A buffer of at least `size` bytes. A buffer from the pool has less than twice as many: otherwise a few messages could
   hold more than was accounted for. *touched: the bytes of the buffer that take memory already. The others take memory
   when they are written to. NULL: there is no memory. */
uint8_t *echod_pool_take(echod_pool *pool, size_t size, size_t *touched);

/* Keep a buffer for later, or release it if there is no room. */
void echod_pool_give(echod_pool *pool, uint8_t *buffer);

/* Release all buffers. */
void echod_pool_trim(echod_pool *pool);

#endif
