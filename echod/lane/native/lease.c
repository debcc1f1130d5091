/* The account of a lease, and its end. See lease.h. */
#ifdef __linux__

#include "lease.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>

size_t echod_lease_message_held(const lease_t *lease)
{
    size_t size = lease->is_gathered ? GATHER_ROOM + echod_gather_size(gather_of(lease))
                                     : ECHOD_LARGE_ROOM + (size_t)lease->large.done;
    /* Nobody knows which bytes took memory before: perhaps those that are not filled yet. */
    size_t touched = lease->message_touched, most = lease->message_room < touched ? touched : lease->message_room;
    return touched + size < most ? touched + size : most;
}

void echod_lease_count(echod_pump *pump, lease_t *lease, const echod_large *large)
{
    lease->public.messages++;
    lease->public.octets += large->length;
    echod_large_sum(large, &pump->sums);
}

void echod_lease_begin(lease_t *lease, int fd, uint32_t slot)
{
    lease->public.fd = fd;
    lease->public.slot = slot;
    lease->read_size = READ_SIZE;
}

size_t echod_lease_pending(const echod_lease *public)
{
    int unconfirmed = 1;
    ioctl(public->fd, SIOCOUTQ, &unconfirmed);
    return public->unsent_size + public->sealed_size + (size_t)unconfirmed;
}

/* The end of a lease. */

/* Hand over bytes together with the buffer that they are in: those of a message are too many to copy. */
static void hand_over(lease_t *lease, uint8_t *buffer, uint8_t *rest, size_t size)
{
    assert(!lease->public.rest_buffer);
    lease->public.rest_buffer = buffer;
    lease->public.rest = rest;
    lease->public.rest_size = size;
}

/* Hand over what was received of a gathered message, as frames, and the bytes behind it. False: there is no memory. */
static bool hand_over_gathered(lease_t *lease, const uint8_t *behind, size_t behind_size)
{
    echod_gather gather = *gather_of(lease); /* a copy, because the frames overwrite it */
    size_t end = GATHER_ROOM + echod_gather_size(&gather);
    if (end + behind_size > lease->message_room) {
        uint8_t *larger = realloc(lease->message, end + behind_size);
        if (!larger)
            return false;
        lease->message = larger;
    }
    if (behind_size)
        memcpy(lease->message + end, behind, behind_size);
    uint8_t *rest = echod_gather_restore(&gather, lease->message + GATHER_ROOM);
    assert(rest >= lease->message);
    hand_over(lease, lease->message, rest, (size_t)(lease->message + end - rest) + behind_size);
    lease->message = NULL;
    lease->public.fragments = gather.fragments;
    return true;
}

/* Hand over bytes of the shared buffer. False: there is no memory. */
static bool hand_over_read(lease_t *lease, const uint8_t *octets, size_t size)
{
    uint8_t *rest = copy_octets(octets, size);
    hand_over(lease, rest, rest, rest ? size : 0);
    return rest != NULL;
}

static void hand_over_large(lease_t *lease)
{
    lease->public.large = lease->large;
    lease->public.large_octets = lease->message;
    lease->message = NULL;
}

static void hand_over_partial(lease_t *lease)
{
    hand_over(lease, lease->partial, lease->partial, lease->partial_size);
    lease->partial = NULL;
}

static void tell_unsent(lease_t *lease)
{
    lease->public.unsent_size = lease->unsent_size + lease->later_size;
    if (lease->unsent)
        lease->public.unsent = lease->unsent + lease->sent;
    lease->public.unsent_first = lease->unsent_size;
    lease->public.later = lease->later;
}

void echod_pump_unwatch(echod_pump *pump, int fd, const void *ready)
{
    epoll_ctl(pump->epoll, EPOLL_CTL_DEL, fd, NULL);
    echod_pump_forget_events(pump, ready);
}

void echod_pump_forget_events(echod_pump *pump, const void *ready)
{
    for (int i = pump->served; i < pump->count; i++)
        if (pump->events[i].data.ptr == ready)
            pump->events[i].data.ptr = NULL;
}

void echod_lease_end(echod_pump *pump, lease_t *lease, echod_end why, const uint8_t *rest, size_t rest_size)
{
    assert(lease->state != ENDED && pump->held >= lease->public.held);
    assert(!lease->partial || !rest_size || why == ECHOD_END_NO_MEMORY);
    assert(!lease->partial || !lease->message || lease->is_gathered);
    lease->state = ENDED;
    if (lease->is_guest) { /* its socket is mostly closed next, which the kernel tells epoll */
        echod_pump_forget_events(pump, lease);
        pump->guests_held -= lease->public.held;
        pump->guests_blocked -= lease->public.unsent_size > 0;
    } else
        echod_pump_unwatch(pump, lease->public.fd, lease);
    bool is_kept = true;
    if (lease->message && lease->is_gathered)
        is_kept = lease->partial ? hand_over_gathered(lease, lease->partial, lease->partial_size)
                                 : hand_over_gathered(lease, rest, rest_size);
    else if (lease->message)
        hand_over_large(lease);
    else if (rest_size)
        is_kept = hand_over_read(lease, rest, rest_size);
    else
        hand_over_partial(lease);
    drop_partial(lease);
    if (lease->tls && !echod_tls_keep(lease->tls, &pump->sealed)) {
        is_kept = false;
        pump->sealed.size = 0;
    }
    tell_unsent(lease);
    if (lease->window)
        lease->public.window_size = echod_window_octets(lease->window, &lease->public.window);
    pump->held -= lease->public.held;
    lease->public.held = 0;
    lease->public.why = is_kept ? why : ECHOD_END_NO_MEMORY;
}

outcome echod_lease_end_in_turn(echod_pump *pump, lease_t *lease, echod_end why, const uint8_t *rest, size_t rest_size)
{
    echod_lease_end(pump, lease, why, rest, rest_size);
    lease->public.next = pump->ended;
    pump->ended = &lease->public;
    return ENDED;
}

outcome echod_lease_end_without_memory(echod_pump *pump, lease_t *lease)
{
    return echod_lease_end_in_turn(pump, lease, ECHOD_END_NO_MEMORY, NULL, 0);
}

void echod_buffer_free(uint8_t *buffer)
{
    free(buffer);
}

void echod_lease_free(echod_lease *public)
{
    lease_t *lease = (lease_t *)public;
    free(public->rest_buffer);
    free(public->large_octets);
    free(lease->unsent);
    free(lease->later);
    free(lease->message);
    free(lease->tls);
    if (lease->window)
        free(lease->window->octets);
    free(lease->window);
    free(lease);
}

#endif
