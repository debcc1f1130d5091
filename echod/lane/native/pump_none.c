/* No pump, for systems without epoll. Knows only pump.h and door.h. */
#include "door.h"
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

echod_lease *echod_pump_ping(echod_pump *pump, echod_lease *lease)
{
    (void)pump, (void)lease;
    return NULL;
}

echod_lease *echod_pump_grown(const echod_pump *pump)
{
    (void)pump;
    return NULL;
}

size_t echod_lease_pending(const echod_lease *lease)
{
    (void)lease;
    return 0;
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

echod_door *echod_door_new(echod_pump *pump, echod_verdicts *verdicts)
{
    (void)pump, (void)verdicts;
    return NULL;
}

void echod_door_free(echod_door *door)
{
    (void)door;
}

int echod_door_open(echod_door *door, int fd, uint32_t endpoint)
{
    (void)door, (void)fd, (void)endpoint;
    return -1;
}

void echod_door_close(echod_door *door, uint32_t endpoint)
{
    (void)door, (void)endpoint;
}

void echod_door_set_room(echod_door *door, size_t room)
{
    (void)door, (void)room;
}

echod_arrival *echod_door_arrivals(echod_door *door)
{
    (void)door;
    return NULL;
}

void echod_arrival_free(echod_arrival *arrival)
{
    (void)arrival;
}

size_t echod_door_gone(echod_door *door, const echod_gone **gone)
{
    (void)door, (void)gone;
    return 0;
}

echod_guest *echod_door_ended(echod_door *door)
{
    (void)door;
    return NULL;
}

void echod_guest_free(echod_door *door, echod_guest *guest)
{
    (void)door, (void)guest;
}

echod_guest *echod_door_first(const echod_door *door)
{
    (void)door;
    return NULL;
}

void echod_door_recall(echod_door *door, echod_guest *guest)
{
    (void)door, (void)guest;
}

size_t echod_guest_head(const echod_guest *guest, uint8_t *head)
{
    (void)guest, (void)head;
    return 0;
}

const echod_terms *echod_guest_terms(const echod_guest *guest)
{
    (void)guest;
    return NULL;
}

int echod_door_expire(echod_door *door, uint64_t since)
{
    (void)door, (void)since;
    return 0;
}

int echod_door_see_off(echod_door *door, uint64_t now, const uint8_t *frame, size_t size)
{
    (void)door, (void)now, (void)frame, (void)size;
    return 0;
}

int echod_door_close_deadline(echod_door *door, uint64_t since, uint64_t now)
{
    (void)door, (void)since, (void)now;
    return 0;
}

int echod_door_recall_holders(echod_door *door)
{
    (void)door;
    return 0;
}

int echod_door_reset_all(echod_door *door, uint64_t now)
{
    (void)door, (void)now;
    return 0;
}

void echod_door_set_keepalive(echod_door *door, uint64_t interval, uint64_t timeout)
{
    (void)door, (void)interval, (void)timeout;
}

size_t echod_door_look(echod_door *door, uint64_t now, size_t most)
{
    (void)door, (void)now, (void)most;
    return 0;
}

int echod_door_judge(echod_door *door, uint64_t now)
{
    (void)door, (void)now;
    return 0;
}

size_t echod_door_list(const echod_door *door, size_t start, size_t most, echod_listed *listed)
{
    (void)door, (void)start, (void)most, (void)listed;
    return 0;
}

size_t echod_door_backpressured(const echod_door *door)
{
    (void)door;
    return 0;
}

size_t echod_door_held(const echod_door *door)
{
    (void)door;
    return 0;
}

void echod_door_turn_out(echod_door *door, size_t most)
{
    (void)door, (void)most;
}

const echod_door_counts *echod_door_counted(const echod_door *door)
{
    (void)door;
    return NULL;
}

#endif
