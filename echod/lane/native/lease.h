/*
 * A lease and the pump, as the pump's own files see them: what a lease has received and not answered, its account, its
 * end.
 *
 * Knows the structures behind pump.h, and the form in which a lease's bytes go back to the owner. Must never know how
 * they are received, what becomes of them, or how an answer is sent.
 */
#ifndef ECHOD_LEASE_H
#define ECHOD_LEASE_H

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "buffer_pool.h"
#include "codec.h"
#include "deflate.h"
#include "frame.h"
#include "gather.h"
#include "pump.h"
#include "sizes.h"
#include "tls.h"

/* Room in front of a gathered message's payload, in its buffer. At the end of a lease the headers of a client go
   there. */
enum { GATHER_ROOM = sizeof(echod_gather) + SERVER_HEADER };
_Static_assert(GATHER_ROOM >= 2 * CLIENT_HEADER, "echod_gather_restore has room for its two headers");

/* Code for plain sockets and TLS is compiled for each of the two: calls are a fifth of the cost of a small message. */
#define FOR_EACH static inline __attribute__((always_inline))

/* How a lease goes on after it was served. The first three are also the states of a lease, which change_state (pump.c)
   changes. */
typedef enum {
    CONTINUE, /* all is served and sent: read on */
    BLOCKED,  /* answers wait until the kernel takes them: read nothing until then */
    PUT_OFF,  /* the rest of a read is in `partial`: serve it in a later turn, if no answers wait; read nothing */
    ENDED,    /* the lease has ended */
} outcome;

/* A lease, with the fields that only the pump sees. The public part comes first. While a buffer is allocated, a field
   *_held has the bytes of memory that it takes. */
typedef struct {
    echod_lease public;
    outcome state;
    /* The beginning of a small frame, or the rest of a read if the state is PUT_OFF. Between two frames of a gathered message it
       is the beginning of a control frame. */
    uint8_t *partial;
    size_t partial_size;
    size_t partial_held;
    /* A message that is not whole, and has a buffer of `message_room` bytes. Either a large frame: ECHOD_LARGE_ROOM
       bytes of room, then the payload so far. Or a gathered one: an echod_gather, SERVER_HEADER bytes of room, then the
       payload. */
    uint8_t *message;
    size_t message_room;
    bool is_gathered;
    /* Whether the lease is a guest's: then it has no owner, and is a part of the guest (door.c). */
    bool is_guest;
    echod_large large;
    /* Bytes of the message's buffer that took memory before anything was written there. */
    size_t message_touched;
    /* Answers that wait: unsent[sent, sent + unsent_size). Then later[0, later_size), which came behind them. */
    uint8_t *unsent;
    size_t sent;
    size_t unsent_size;
    size_t unsent_held;
    uint8_t *later;
    size_t later_size;
    size_t later_room;
    size_t later_held;
    /* NULL: a plain socket. */
    echod_tls *tls;
    /* Bytes of one receive into the shared buffer. */
    size_t read_size;
    /* NULL: deflated messages are left to the owner. */
    echod_window *window;
} lease_t;

struct echod_pump {
    int epoll;
    uint64_t max_message_size;
    uint32_t max_fragments;
    /* The sum of the accounts of all leases. */
    size_t held;
    /* The sum of those of guests, and how many guests have answers that wait. */
    size_t guests_held, guests_blocked;
    bool is_tight;
    /* When the lease that is being served had its turn, and when it has had its share of it (CLOCK_MONOTONIC, ns). */
    uint64_t now, share_end;
    echod_sums sums;
    echod_lease *ended;
    echod_lease *grown;
    /* The events that were fetched, and how many of them are served. The next turn begins with those that a turn had no
       time for. */
    int count;
    int served;
    echod_pool pool;
    struct epoll_event events[BATCH];
    uint8_t buffer[SHARED_SIZE];
    /* Over TLS: the records that were received for the lease that is being served, and are not in its session yet. */
    echod_openssl openssl;
    echod_sealed sealed;
    /* NULL: echod_pump_set_zlib was not called. */
    echod_deflate *deflate;
    /* NULL: the pump does not accept. */
    struct echod_door *door;
    /* Whether the door has so much to tell that the turn has to end. */
    bool is_full;
    uint8_t received[SEALED_SIZE];
};

/* The longest message that the pump takes. If a size_t has 32 bits, no size that is computed from this one wraps
   around. */
static const uint64_t LARGEST_MESSAGE = SIZE_MAX / 8;

/* How much one socket may receive at a time, so that large messages do not delay the other sockets that are ready. */
static inline size_t piece_size(const echod_pump *pump)
{
    size_t size = BATCH_SIZE / (size_t)(pump->count ? pump->count : 1);
    return size < MIN_PIECE_SIZE ? MIN_PIECE_SIZE : size > PIECE_SIZE ? PIECE_SIZE : size;
}

/* The beginning of a gathered message's buffer. */
static inline echod_gather *gather_of(const lease_t *lease)
{
    assert(lease->message && lease->is_gathered);
    return (echod_gather *)(void *)lease->message;
}

/* A copy. NULL: there is no memory. */
static inline uint8_t *copy_octets(const uint8_t *octets, size_t size)
{
    uint8_t *copied = malloc(size);
    if (copied)
        memcpy(copied, octets, size);
    return copied;
}

/* Keep a copy of bytes until more of them have come, or for a later turn. False: there is no memory. */
static inline bool copy_partial(lease_t *lease, const uint8_t *octets, size_t size)
{
    assert(!lease->partial && size);
    lease->partial = copy_octets(octets, size);
    lease->partial_size = lease->partial ? size : 0;
    lease->partial_held = allocated_size(lease->partial);
    return lease->partial != NULL;
}

static inline void drop_partial(lease_t *lease)
{
    free(lease->partial);
    lease->partial = NULL;
    lease->partial_size = lease->partial_held = 0;
}

/* Give a buffer to the pool. While the pump is tight it is released. */
static inline void give_buffer(echod_pump *pump, uint8_t *buffer)
{
    if (pump->is_tight)
        free(buffer);
    else
        echod_pool_give(&pump->pool, buffer);
}

/* Bytes of memory that the message's buffer takes. A header alone claims a whole buffer, and the pages of a large
   buffer take no memory until they are written to. */
size_t echod_lease_message_held(const lease_t *lease);

/* Put a lease on the list of those whose session has grown, once. */
static inline void tell_grown(echod_pump *pump, lease_t *lease)
{
    if (lease->public.has_grown || !echod_tls_has_grown(lease->tls))
        return;
    lease->public.has_grown = 1;
    lease->public.next_grown = pump->grown;
    pump->grown = &lease->public;
}

/* Bring a lease's account up to date. */
static inline void set_held(echod_pump *pump, lease_t *lease)
{
    size_t held = lease->partial_held + lease->unsent_held + lease->later_held;
    if (lease->message)
        held += echod_lease_message_held(lease);
    if (lease->is_guest) {
        pump->guests_held += held - lease->public.held;
        pump->guests_blocked += (size_t)(lease->unsent_size > 0) - (size_t)(lease->public.unsent_size > 0);
    }
    lease->public.unsent_size = lease->unsent_size + lease->later_size;
    if (lease->tls) {
        const uint8_t *octets;
        lease->public.sealed_size = echod_tls_unsent(lease->tls, &octets);
        held += echod_tls_held(lease->tls);
        tell_grown(pump, lease);
    }
    assert(pump->held >= lease->public.held);
    pump->held += held - lease->public.held;
    lease->public.held = held;
}

/* Begin a lease of a plain socket. The caller has cleared it, and lets the pump watch the socket. */
void echod_lease_begin(lease_t *lease, int fd, uint32_t slot);

/* Watch a socket no longer that epoll keeps `ready` for, and serve no event of it. */
void echod_pump_unwatch(echod_pump *pump, int fd, const void *ready);

/* Serve no event any more that the turn may have fetched of `ready`. */
void echod_pump_forget_events(echod_pump *pump, const void *ready);

/* Serve `size` bytes at the beginning of the shared buffer as if they had been read. Nothing of the lease waits. */
void echod_pump_serve_read(echod_pump *pump, lease_t *lease, size_t size);

/* Whether a deflated message has begun. It may be wrong already, which Autobahn would have found: it inflates each frame as it
   comes. So what would be sent before that is found, in answer to a control frame, is the owner's. */
static inline bool is_within_deflated(const lease_t *lease)
{
    return lease->message && lease->is_gathered && echod_gather_is_deflated(gather_of(lease));
}

/* Count a message that was echoed. */
void echod_lease_count(echod_pump *pump, lease_t *lease, const echod_large *large);

/* End a lease. `rest` is what was received behind the bytes of an unfinished message that the lease keeps itself. */
void echod_lease_end(echod_pump *pump, lease_t *lease, echod_end why, const uint8_t *rest, size_t rest_size);

/* End a lease within a turn, which puts it on the list of ended leases. Returns ENDED. */
outcome echod_lease_end_in_turn(echod_pump *pump, lease_t *lease, echod_end why, const uint8_t *rest, size_t rest_size);

/* End a lease within a turn because there is no memory to keep what was received or is to be sent. Returns ENDED. */
outcome echod_lease_end_without_memory(echod_pump *pump, lease_t *lease);

#endif
