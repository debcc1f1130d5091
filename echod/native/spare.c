/* Spare buffers. See spare.h. */
#ifdef __linux__

#include "spare.h"

#include <malloc.h>
#include <stdlib.h>

enum {
    SPARE_SIZE = 8 * 1024 * 1024, /* octets of all of them, at most, */
    MIN_SPARE_SIZE = 128 * 1024,  /* and of each, at least: smaller ones malloc keeps by itself */
};

uint8_t *echod_spares_take(echod_spares *spares, size_t size)
{
    for (int i = 0; i < SPARES; i++) {
        uint8_t *spare = spares->buffers[i];
        size_t spare_size = spare ? malloc_usable_size(spare) : 0;
        if (spare_size >= size && spare_size / 2 < size) {
            spares->buffers[i] = NULL;
            spares->size -= spare_size;
            return spare;
        }
    }
    return malloc(size);
}

void echod_spares_give(echod_spares *spares, uint8_t *buffer)
{
    size_t size = malloc_usable_size(buffer);
    if (size >= MIN_SPARE_SIZE && spares->size + size <= SPARE_SIZE)
        for (int i = 0; i < SPARES; i++)
            if (!spares->buffers[i]) {
                spares->buffers[i] = buffer;
                spares->size += size;
                return;
            }
    free(buffer);
}

void echod_spares_trim(echod_spares *spares)
{
    for (int i = 0; i < SPARES; i++) {
        free(spares->buffers[i]);
        spares->buffers[i] = NULL;
    }
    spares->size = 0;
}

#endif
