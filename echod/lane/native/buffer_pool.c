/* The pool of buffers. See buffer_pool.h. */
#define _GNU_SOURCE
#ifdef __linux__

#include "buffer_pool.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "pump.h"

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

uint8_t *echod_pool_take(echod_pool *pool, size_t size, size_t *touched)
{
    for (int i = 0; i < POOL_BUFFERS; i++) {
        uint8_t *spare = pool->buffers[i];
        size_t spare_size = allocated_size(spare);
        if (spare_size >= size && spare_size / 2 < size) {
            assert(pool->size >= spare_size);
            pool->buffers[i] = NULL;
            pool->size -= spare_size;
            *touched = spare_size;
            return spare;
        }
    }
    uint8_t *buffer = malloc(size);
    /* malloc takes small buffers from pages that are in use already. */
    *touched = size < MIN_POOLED_SIZE ? allocated_size(buffer) : buffer ? echod_resident(buffer, size) : 0;
    return buffer;
}

void echod_pool_give(echod_pool *pool, uint8_t *buffer)
{
    size_t size = allocated_size(buffer);
    if (size >= MIN_POOLED_SIZE && pool->size + size <= POOL_SIZE)
        for (int i = 0; i < POOL_BUFFERS; i++)
            if (!pool->buffers[i]) {
                pool->buffers[i] = buffer;
                pool->size += size;
                return;
            }
    free(buffer);
}

void echod_pool_trim(echod_pool *pool)
{
    for (int i = 0; i < POOL_BUFFERS; i++) {
        free(pool->buffers[i]);
        pool->buffers[i] = NULL;
    }
    pool->size = 0;
}

#endif
