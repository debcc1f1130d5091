/*
 * What the pump offers: sockets that are leased to it are served without Python, all ready ones in one turn.
 *
 * Knows sockets, epoll, the codec, and of TLS what tls.h tells, of fragments what gather.h tells, of zlib what deflate.h tells. Must never
 * know a transport, a reactor or a handshake: a lease is a descriptor that stands at a frame boundary, outside a message, and goes back
 * with what is left of its octets as soon as something comes that is neither an ordinary frame nor part of a fragmented message or a
 * deflated one.
 *
 * One thread: a pump is not to be used by two at a time. Linux alone; elsewhere (pump_none.c) there is none, and echod_pump_new answers
 * NULL.
 */
#ifndef ECHOD_PUMP_H
#define ECHOD_PUMP_H

#include <stddef.h>
#include <stdint.h>

#include "codec.h"
#include "deflate.h"

/* cffi: begin */

typedef struct echod_pump echod_pump;

/* The functions of OpenSSL: see tls.h. */
typedef struct echod_openssl echod_openssl;

/* Why a lease ended. */
typedef enum {
    ECHOD_END_RECALLED,     /* it was asked for */
    ECHOD_END_NOT_ORDINARY, /* the rest is for Autobahn: also a frame above the limit, or one there is no room to wait for; over TLS, it
                               or what the session has behind it */
    ECHOD_END_BLOCKED,      /* the pump is tight, and the peer doesn't take its answers */
    ECHOD_END_CLOSED,       /* end of file or an error: the next read by the owner tells which */
    ECHOD_END_NO_MEMORY,    /* what was received is lost: the connection is to be aborted */
} echod_end;

typedef struct echod_lease {
    /* What the owner knows it by. */
    int fd;
    uint32_t slot;
    /* Messages echoed so far, the octets of their payloads, and reads, which are signs of life. */
    uint64_t messages;
    uint64_t octets;
    uint64_t reads;
    /* Octets of memory held now: for a message that is not whole yet, and for answers that the kernel has not taken. A buffer counts with
       all of it that takes memory, not with what is left in it. */
    size_t held;
    /* Octets of answers that the kernel has not taken. */
    size_t unsent_size;
    /* Over TLS: octets of records, likewise. When the lease has ended they are in the session, and go before the unsent answers. */
    size_t sealed_size;
    /* When the lease has ended: why, and octets that were received and not echoed, as the client sent them; they belong to the lease. */
    echod_end why;
    const uint8_t *rest;
    size_t rest_size;
    /* What they are in. This buffer, and that of a large frame, can be taken from the lease: then NULL is to be put in its place. */
    uint8_t *rest_buffer;
    /* Or instead a large frame (codec.h) that is not whole, or is invalid, with its payload so far behind ECHOD_LARGE_ROOM octets of a buffer
       for all of it; NULL: there is none. Octets behind the one that makes it invalid are left out: whoever judges that one looks at no
       more. */
    echod_large large;
    uint8_t *large_octets;
    /* Whole frames of a fragmented message, which the first one in there stands for; 0: it is what came. */
    uint32_t fragments;
    /* Likewise the window (deflate.h) with which the next deflated message is to be inflated. */
    const uint8_t *window;
    size_t window_size;
    /* Likewise the unsent answers, which go before anything else that is written: so many octets of them first, then those that came behind
       while these waited. */
    const uint8_t *unsent;
    size_t unsent_first;
    const uint8_t *later;
    /* The next in the list of those that ended in a turn. */
    struct echod_lease *next;
    /* Over TLS: whether the session's BIOs have grown, and the next in the list of those of which this was first seen in the same turn. */
    int has_grown;
    struct echod_lease *next_grown;
} echod_lease;

/* A pump for messages of at most this size, in at most so many frames. NULL, with errno, if there can be none. Messages that a processor of
   32 bits can't address are left to the owner, whatever the size allows. */
echod_pump *echod_pump_new(uint64_t max_message_size, uint32_t max_fragments);

/* Release a pump; its leases must be released before. */
void echod_pump_free(echod_pump *pump);

/* The descriptor that is readable while any leased socket is ready. */
int echod_pump_fd(const echod_pump *pump);

/* Lease a non-blocking stream socket. NULL if it can't be. */
echod_lease *echod_pump_lend(echod_pump *pump, int fd, uint32_t slot);

/* Likewise with a TLS session on it (an SSL and its two memory BIOs) whose handshake is over, which has nothing to send and was asked for
   octets until it had none. Until the lease has ended nobody else may touch it. echod_pump_set_openssl comes first. */
echod_lease *echod_pump_lend_tls(echod_pump *pump, int fd, uint32_t slot, void *ssl, void *in, void *out);

/* Tell the functions of the library that makes the sessions; they are copied. */
void echod_pump_set_openssl(echod_pump *pump, const echod_openssl *openssl);

/* Tell the functions of zlib, which are copied, once; from then on leases may take deflated messages. 0; -1: there is no memory, or they
   are not what they say. */
int echod_pump_set_zlib(echod_pump *pump, const echod_zlib *zlib, const echod_deflate_settings *settings);

/* Let a new lease take deflated messages, too, on these terms, the first of them with this window, which is copied. 0; -1: there is no
   memory, or no compressor for such terms, and the lease is to be recalled. */
int echod_pump_take_deflated(echod_pump *pump, echod_lease *lease, const echod_terms *terms, const uint8_t *window, size_t size);

/* Serve the ready sockets, for about as long as budget_ns says, and answer with the list of leases that ended. */
echod_lease *echod_pump_turn(echod_pump *pump, uint64_t budget_ns);

/* The list of leases whose BIOs were first seen in the last turn to have grown. It is good until a lease is released. Memory BIOs never
   shrink: their owner may end the lease, and put new ones in their place. */
echod_lease *echod_pump_grown(const echod_pump *pump);

/* End a lease that has not ended. */
void echod_pump_recall(echod_pump *pump, echod_lease *lease);

/* Release a lease that has ended, and its octets. */
void echod_lease_free(echod_lease *lease);

/* Release a buffer that was taken from a lease. */
void echod_buffer_free(uint8_t *buffer);

/* Octets that all leases hold. */
size_t echod_pump_held(const echod_pump *pump);

/* What all leases have echoed, those that are gone included; good for as long as the pump is. */
const echod_sums *echod_pump_sums(const echod_pump *pump);

/* Whether it is tight: then no lease holds more than a small piece of a frame; what would be more ends it. */
void echod_pump_set_tight(echod_pump *pump, int is_tight);

/* Octets of buffers that are held by no lease: of large messages that are over, for those to come. */
size_t echod_pump_spare(const echod_pump *pump);

/* Release them. */
void echod_pump_trim(echod_pump *pump);

/* Of octets[0, size), those in pages that take memory; where that can't be told, all of them. An allocator hands out pages that were
   another's and take memory, and such that take none until they are written to. */
size_t echod_resident(const uint8_t *octets, size_t size);

/* cffi: end */

#endif
