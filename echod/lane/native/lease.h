/*
 * A lease, and the pump, as the pump's own files see them: what a lease has received and not answered, how much it holds, and its end.
 *
 * Knows the structures behind pump.h, and in which form a lease's octets go back. Must never know how they are received, what becomes of
 * them, or how an answer is sent.
 */
#ifndef ECHOD_LEASE_H
#define ECHOD_LEASE_H

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "codec.h"
#include "deflate.h"
#include "frame.h"
#include "gather.h"
#include "pump.h"
#include "spare.h"
#include "tls.h"

enum {
    PIECE_SIZE = 256 * 1024, /* of one receive into a large message's own buffer: it stays in the second-level cache until it is checked */
    SEALED_SIZE = 80 * 1024, /* of one receive over TLS: a message of 64 KiB with what its records take besides */
    KEEP_SIZE = 4 * 1024,    /* a smaller frame that is cut is kept and decoded when it is whole: reading it over again costs little */
    BATCH = 256,             /* events asked for at a time */
    BATCH_SIZE = 2 * 1024 * 1024, /* octets to receive, or to send, for all events of a batch: who is last in it waits for no more */
    MIN_PIECE_SIZE = 16 * 1024,
    SHARE = 250 * 1000, /* nanoseconds for one lease: what a read has no time for is put off, so that others get their turn */
    GATHER_ROOM = sizeof(echod_gather) + SERVER_HEADER, /* in front of a gathered message's payload, in its buffer: also for client's headers */
};

/* What plain sockets and TLS have in common is compiled for each by itself: calls are a fifth of what the pump does for a small message. */
#define FOR_EACH static inline __attribute__((always_inline))

_Static_assert(GATHER_ROOM >= 2 * CLIENT_HEADER, "echod_gather_restore has room");

/* A lease with what only the pump sees of it. The public part comes first. */
typedef struct {
    echod_lease public;
    /* The begin of a small frame that is not whole yet, or what was put off. */
    uint8_t *partial;
    size_t partial_size;
    /* A large frame that is not whole yet: ECHOD_LARGE_ROOM octets of room, then the payload so far. Or if it is gathered, an echod_gather,
       SERVER_HEADER octets of room, and the payload so far, in a buffer of so many octets in all. */
    uint8_t *message;
    echod_large large;
    size_t message_room;
    /* Octets of the message's buffer that took memory before anything was put there. */
    size_t message_touched;
    /* What is to be sent: unsent[sent, sent + unsent_size), in a buffer so many octets of which take memory. Then what came behind it. */
    uint8_t *unsent;
    size_t sent;
    size_t unsent_size;
    size_t unsent_room;
    uint8_t *later;
    size_t later_size;
    size_t later_room;
    bool is_writing;
    bool is_gathered;
    /* `partial` is what a read had no time for. It is served before any more is received. */
    bool is_put_off;
    /* NULL: a plain socket. */
    echod_tls *tls;
    /* Octets of one receive into the shared buffer. */
    size_t read_size;
    /* NULL: deflated messages are not for us. */
    echod_window *window;
} lease_t;

struct echod_pump {
    int epoll;
    uint64_t max_message_size;
    uint32_t max_fragments;
    size_t held;
    bool is_tight;
    /* When the lease that is being served has had its share of the turn (CLOCK_MONOTONIC, ns). */
    uint64_t share_end;
    echod_sums sums;
    echod_lease *ended;
    echod_lease *grown;
    /* Events that were fetched and are still to be served: what one turn had no time for comes first in the next. */
    int count;
    int served;
    echod_spares spares;
    struct epoll_event events[BATCH];
    uint8_t buffer[KEEP_SIZE + SEALED_SIZE];
    /* For TLS: what was received for the lease that is being served, and has not gone into its session yet. */
    echod_openssl openssl;
    echod_sealed sealed;
    /* NULL: nobody has told of zlib. */
    echod_deflate *deflate;
    uint8_t received[SEALED_SIZE];
};

/* A longer message is the owner's. Where a size_t has 32 bits, no size wraps around that comes of this one, doubled and with some headers. */
static const uint64_t LARGEST_MESSAGE = SIZE_MAX / 8;

/* How much may go to or come from one socket, so that those with large messages don't hold up the others that are ready. */
static inline size_t piece_size(const echod_pump *pump)
{
    size_t size = BATCH_SIZE / (size_t)(pump->count ? pump->count : 1);
    return size < MIN_PIECE_SIZE ? MIN_PIECE_SIZE : size > PIECE_SIZE ? PIECE_SIZE : size;
}

/* The begin of a gathered message's buffer. */
static inline echod_gather *gather_of(const lease_t *lease)
{
    return (echod_gather *)(void *)lease->message;
}

/* NULL: there is no memory. */
static inline uint8_t *copy_octets(const uint8_t *octets, size_t size)
{
    uint8_t *copied = malloc(size);
    if (copied)
        memcpy(copied, octets, size);
    return copied;
}

/* Keep octets until they are served with others behind them, or later. False: there is no memory. */
static inline bool keep_partial(lease_t *lease, const uint8_t *octets, size_t size)
{
    lease->partial = copy_octets(octets, size);
    lease->partial_size = lease->partial ? size : 0;
    return lease->partial != NULL;
}

static inline void drop_partial(lease_t *lease)
{
    free(lease->partial);
    lease->partial = NULL;
    lease->partial_size = 0;
}

/* Keep a buffer for later, or release it: while it is tight, at once. */
static inline void give_buffer(echod_pump *pump, uint8_t *buffer)
{
    if (pump->is_tight)
        free(buffer);
    else
        echod_spares_give(&pump->spares, buffer);
}

/* Octets of memory that the message which has a buffer takes. A header alone claims a whole buffer, whose pages take none until they are
   written to. */
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

/* Note what a lease holds now. */
static inline void set_held(echod_pump *pump, lease_t *lease)
{
    size_t held = lease->partial_size + lease->unsent_room + lease->later_room + (lease->message ? echod_lease_message_held(lease) : 0);
    lease->public.unsent_size = lease->unsent_size + lease->later_size;
    if (lease->tls) {
        const uint8_t *octets;
        lease->public.sealed_size = echod_tls_unsent(lease->tls, &octets);
        held += echod_tls_held(lease->tls);
        tell_grown(pump, lease);
    }
    pump->held += held - lease->public.held;
    lease->public.held = held;
}

/* Count a message that was echoed. */
void echod_lease_count(echod_pump *pump, lease_t *lease, const echod_large *large);

/* Forget a socket; `rest` is what was received behind what the lease itself keeps (which is nothing then). */
void echod_lease_end(echod_pump *pump, lease_t *lease, echod_end why, const uint8_t *rest, size_t rest_size);

/* Likewise, and have the turn tell of it. */
void echod_lease_end_in_turn(echod_pump *pump, lease_t *lease, echod_end why, const uint8_t *rest, size_t rest_size);

#endif
