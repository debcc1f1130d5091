/* No pump, for systems without epoll. Knows only pump.h. */
#include "pump.h"

#ifndef __linux__

#include <errno.h>

echod_pump *echod_pump_new(uint64_t max_message_size, uint32_t max_fragments)
{
    (void)max_message_size, (void)max_fragments;
    errno = ENOSYS;
    return NULL;
}

void echod_pump_free(echod_pump *pump)
{
    (void)pump;
}

int echod_pump_fd(const echod_pump *pump)
{
    (void)pump;
    return -1;
}

echod_lease *echod_pump_lend(echod_pump *pump, int fd, uint32_t slot)
{
    (void)pump, (void)fd, (void)slot;
    return NULL;
}

echod_lease *echod_pump_lend_tls(echod_pump *pump, int fd, uint32_t slot, void *ssl, void *in, void *out)
{
    (void)pump, (void)fd, (void)slot, (void)ssl, (void)in, (void)out;
    return NULL;
}

void echod_pump_set_openssl(echod_pump *pump, const echod_openssl *openssl)
{
    (void)pump, (void)openssl;
}

int echod_pump_set_zlib(echod_pump *pump, const echod_zlib *zlib, const echod_deflate_settings *settings)
{
    (void)pump, (void)zlib, (void)settings;
    return -1;
}

int echod_pump_take_deflated(echod_pump *pump, echod_lease *lease, const echod_terms *terms, const uint8_t *window,
                             size_t size)
{
    (void)pump, (void)lease, (void)terms, (void)window, (void)size;
    return -1;
}

echod_lease *echod_pump_turn(echod_pump *pump, uint64_t budget_ns)
{
    (void)pump, (void)budget_ns;
    return NULL;
}

echod_lease *echod_pump_grown(const echod_pump *pump)
{
    (void)pump;
    return NULL;
}

void echod_pump_recall(echod_pump *pump, echod_lease *lease)
{
    (void)pump, (void)lease;
}

void echod_buffer_free(uint8_t *buffer)
{
    (void)buffer;
}

void echod_lease_free(echod_lease *lease)
{
    (void)lease;
}

size_t echod_pump_held(const echod_pump *pump)
{
    (void)pump;
    return 0;
}

const echod_sums *echod_pump_sums(const echod_pump *pump)
{
    (void)pump;
    return NULL;
}

void echod_pump_set_tight(echod_pump *pump, int is_tight)
{
    (void)pump, (void)is_tight;
}

size_t echod_pump_spare(const echod_pump *pump)
{
    (void)pump;
    return 0;
}

void echod_pump_trim(echod_pump *pump)
{
    (void)pump;
}

size_t echod_resident(const uint8_t *octets, size_t size)
{
    (void)octets;
    return size;
}

#endif
