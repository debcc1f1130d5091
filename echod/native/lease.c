/* What leases hold, and their end. See lease.h. */
#ifdef __linux__

#include "lease.h"

size_t echod_lease_message_size(const lease_t *lease)
{
    return lease->is_gathered ? echod_gather_restored_size(gather_of(lease)) : (size_t)lease->large.done;
}

void echod_lease_count(echod_pump *pump, lease_t *lease, const echod_large *large)
{
    lease->public.messages++;
    lease->public.octets += large->length;
    echod_large_sum(large, &pump->sums);
}

/* The end of a lease. */

/* What was received of a large frame, as the client sent it. */
static bool take_back_large(lease_t *lease)
{
    uint8_t header[CLIENT_HEADER];
    size_t header_size = echod_large_client_header(&lease->large, header);
    size_t done = (size_t)lease->large.done;
    echod_large_restore(&lease->large, lease->message + SERVER_HEADER);
    uint8_t *rest = malloc(header_size + done);
    if (rest) {
        memcpy(rest, header, header_size);
        memcpy(rest + header_size, lease->message + SERVER_HEADER, done);
    }
    free(lease->message);
    lease->message = NULL;
    lease->public.rest = rest;
    lease->public.rest_size = rest ? header_size + done : 0;
    return rest != NULL;
}

/* What was received of a gathered message, as frames, and the octets behind it. */
static bool take_back_gathered(lease_t *lease, const uint8_t *behind, size_t behind_size)
{
    echod_gather *gather = gather_of(lease);
    size_t size = echod_gather_restored_size(gather);
    uint8_t *rest = malloc(size + behind_size);
    if (rest) {
        echod_gather_restore(gather, lease->message + GATHER_ROOM, rest);
        if (behind_size)
            memcpy(rest + size, behind, behind_size);
        lease->public.fragments = gather->fragments;
    }
    free(lease->message);
    lease->message = NULL;
    lease->public.rest = rest;
    lease->public.rest_size = rest ? size + behind_size : 0;
    return rest != NULL;
}

void echod_lease_end(echod_pump *pump, lease_t *lease, echod_end why, const uint8_t *rest, size_t rest_size)
{
    epoll_ctl(pump->epoll, EPOLL_CTL_DEL, lease->public.fd, NULL);
    for (int i = pump->served; i < pump->count; i++)
        if (pump->events[i].data.ptr == lease)
            pump->events[i].data.ptr = NULL;
    bool is_kept = true;
    if (lease->message) {
        is_kept = lease->is_gathered ? take_back_gathered(lease, rest, rest_size) : take_back_large(lease);
    } else if (rest_size) {
        lease->public.rest = copy_octets(rest, rest_size);
        lease->public.rest_size = rest_size;
        is_kept = lease->public.rest != NULL;
    } else {
        lease->public.rest = lease->partial;
        lease->public.rest_size = lease->partial_size;
        lease->partial = NULL;
    }
    drop_partial(lease);
    if (lease->tls && !echod_tls_keep(lease->tls, &pump->sealed)) {
        is_kept = false;
        pump->sealed.size = 0;
    }
    if (lease->public.unsent_size)
        memmove(lease->public.unsent, lease->public.unsent + lease->sent, lease->public.unsent_size);
    if (lease->window)
        lease->public.window_size = echod_window_octets(lease->window, &lease->public.window);
    pump->held -= lease->public.held;
    lease->public.held = 0;
    lease->public.why = is_kept ? why : ECHOD_END_NO_MEMORY;
}

void echod_lease_end_in_turn(echod_pump *pump, lease_t *lease, echod_end why, const uint8_t *rest, size_t rest_size)
{
    echod_lease_end(pump, lease, why, rest, rest_size);
    lease->public.next = pump->ended;
    pump->ended = &lease->public;
}

void echod_lease_free(echod_lease *lease)
{
    free(lease->rest);
    free(lease->unsent);
    free(((lease_t *)lease)->tls);
    if (((lease_t *)lease)->window)
        free(((lease_t *)lease)->window->octets);
    free(((lease_t *)lease)->window);
    free(lease);
}

#endif
