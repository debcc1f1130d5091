/* Spare buffers. See spare.h. */
#define _GNU_SOURCE
#ifdef __linux__

#include "spare.h"

#include <malloc.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    SPARE_SIZE = 8 * 1024 * 1024, /* octets of all of them, at most, */
    MIN_SPARE_SIZE = 128 * 1024,  /* and of each, at least: smaller ones malloc keeps by itself */
};

size_t echod_resident(const uint8_t *octets, size_t size)
{
    unsigned char pages[1024];
    size_t page = (size_t)sysconf(_SC_PAGESIZE), resident = 0;
    uintptr_t at = (uintptr_t)octets & -page, end = (uintptr_t)octets + size;
    while (at < end) {
        size_t left = (end - at + page - 1) / page, count = left < sizeof pages ? left : sizeof pages;
        if (mincore((void *)at, count * page, pages) < 0)
            return size;
        for (size_t i = 0; i < count; i++)
            resident += (pages[i] & 1) * page;
        at += count * page;
    }
    return resident < size ? resident : size;
}

uint8_t *echod_spares_take(echod_spares *spares, size_t size, size_t *touched)
{
    for (int i = 0; i < SPARES; i++) {
        uint8_t *spare = spares->buffers[i];
        size_t spare_size = spare ? malloc_usable_size(spare) : 0;
        if (spare_size >= size && spare_size / 2 < size) {
            spares->buffers[i] = NULL;
            spares->size -= spare_size;
            *touched = spare_size;
            return spare;
        }
    }
    uint8_t *buffer = malloc(size);
    *touched = buffer && size >= MIN_SPARE_SIZE ? echod_resident(buffer, size) : size;
    return buffer;
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
